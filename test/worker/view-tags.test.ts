import { expect, it } from "vitest";
import { ViewTags } from "../../worker/view-tags.ts";

it("a view keeps its tag, no two views share one, and views that lie far back are forgotten", () => {
  const tags = new ViewTags();
  const view = (number: number) => ({ term: 1 + (number % 3), number });
  const given = Array.from({ length: 200 }, (_, number) => {
    const tag = tags.of(view(number));
    expect(tags.of(view(number))).toBe(tag);
    expect(tags.view(tag)).toEqual(view(number));
    return tag;
  });
  expect(new Set(given).size).toBe(200);
  expect(given.filter((tag) => tags.view(tag) !== undefined)).toEqual(given.slice(-64));
  // One that comes back after that has a tag of its own again.
  const again = tags.of(view(0));
  expect(given).not.toContain(again);
  expect(tags.view(again)).toEqual(view(0));
});
