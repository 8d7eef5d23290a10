import prettyBytes from "pretty-bytes";

/** Progress of set-up on stderr: one line that is rewritten on a terminal, a line every tenth elsewhere. */
export class SetupDisplay {
  private open = false;
  private shown = 0;
  private readonly screen: { readonly isTTY?: boolean; write(text: string): unknown };

  constructor(screen: { readonly isTTY?: boolean; write(text: string): unknown } = process.stderr) {
    this.screen = screen;
  }

  message(text: string): void {
    if (this.open) this.screen.write("\n");
    this.open = false;
    this.screen.write(`${text}\n`);
  }

  progress(what: string, done: number, total: number): void {
    const share = total > 0 ? done / total : 0;
    const step = this.screen.isTTY ? 0.005 : 0.1;
    if (share < this.shown + step && done !== total) return;
    this.shown = share >= 1 ? 0 : share;
    const text = `${what}: ${prettyBytes(done)} of ${prettyBytes(total)} (${Math.round(share * 100)} %)`;
    this.screen.write(this.screen.isTTY ? `\r${text}\u001b[K` : `${text}\n`);
    this.open = this.screen.isTTY === true;
  }
}
