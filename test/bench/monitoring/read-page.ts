/** Asks for what coordinator/live/page.js asks for in this second. A page that does not answer is asked again by the next call. */
export async function readPage(http: string, second: number): Promise<void> {
  const asked = second % 3 === 0 ? ["status.json", "history.json"] : ["status.json"];
  await Promise.all(
    asked.map((path) =>
      fetch(`http://${http}/${path}`).then(
        (answer) => answer.text(),
        () => "",
      ),
    ),
  );
}
