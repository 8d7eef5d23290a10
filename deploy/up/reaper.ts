import { type ChildProcess, spawn } from "node:child_process";

/**
 * The last line against processes that outlive `up`: a shell that holds the ids of all process groups and, when `up` is
 * gone without having taken them back (a kill, a power cut of its terminal), ends them. Lockstep's own processes end by
 * themselves then; a frozen one cannot, and nats-server does not know its parent.
 */
const SCRIPT = `
trap '' INT HUP TERM
groups=' '
while read -r change group; do
  kept=' '
  for one in $groups; do [ "$one" = "$group" ] || kept="$kept$one "; done
  groups=$kept
  [ "$change" = add ] && groups="$groups$group "
done
[ "$groups" = ' ' ] && exit 0
sleep 1
for one in $groups; do kill -s KILL -- "-$one" 2>/dev/null; done
exit 0
`;

/** What a process keeper tells the reaper. */
export interface GroupWatch {
  add(group: number): void;
  remove(group: number): void;
}

export class Reaper implements GroupWatch {
  readonly #shell: ChildProcess;

  constructor() {
    this.#shell = spawn("/bin/sh", ["-c", SCRIPT], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    this.#shell.stdin!.on("error", () => {});
    this.#shell.on("error", () => {});
    this.#shell.unref();
  }

  add(group: number): void {
    this.#shell.stdin!.write(`add ${group}\n`);
  }

  remove(group: number): void {
    this.#shell.stdin!.write(`remove ${group}\n`);
  }

  /** All groups have ended: the shell ends too. */
  close(): void {
    this.#shell.stdin!.end();
  }
}
