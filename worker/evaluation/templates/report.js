// The page works without this; it adds the slider for the strength of the maps and the filter of the classes.
const root = document.documentElement;
for (const control of document.querySelectorAll("[data-script]")) control.hidden = false;

const strength = document.querySelector("#strength");
strength?.addEventListener("input", () => root.style.setProperty("--map", String(strength.value / 100)));

const filter = document.querySelector("#filter");
filter?.addEventListener("change", () => {
  for (const part of document.querySelectorAll("[data-class]")) {
    part.hidden = filter.value !== "" && part.dataset.class !== filter.value;
  }
});
