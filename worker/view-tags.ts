import { type ViewId, viewName } from "../shared/protocol/view.ts";

/** Views whose tags are known: the one under way and those that replies under way may still name. */
const KNOWN = 64;

/** Small numbers for views, as the commit word and the compute thread's messages carry them. */
export class ViewTags {
  readonly #tags = new Map<string, number>();
  readonly #views = new Map<number, ViewId>();
  #last = 0;

  /** The view's tag; a new one where it has none or lies too far back. */
  of(view: ViewId): number {
    const name = viewName(view);
    const known = this.#tags.get(name);
    if (known !== undefined) return known;
    this.#last += 1;
    this.#tags.set(name, this.#last);
    this.#views.set(this.#last, view);
    const old = this.#views.get(this.#last - KNOWN);
    if (old !== undefined) {
      this.#tags.delete(viewName(old));
      this.#views.delete(this.#last - KNOWN);
    }
    return this.#last;
  }

  /** The view of a tag; undefined for one that lies too far back. */
  view(tag: number): ViewId | undefined {
    return this.#views.get(tag);
  }
}
