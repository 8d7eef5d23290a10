import { renameSync, writeFileSync } from "node:fs";
import { isLoopback, splitAddress } from "../shared/process/addresses.ts";

/**
 * One group of targets, as Prometheus' HTTP and file service discovery read them
 * (prometheus.io/docs/prometheus/latest/http_sd).
 */
export interface TargetGroup {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

/** What discovery needs of a worker. */
export interface Scrapable {
  readonly name: string;
  readonly host: string;
  /** Where other members dial it, host:port. */
  readonly address: string;
  readonly httpAddress: string;
}

/**
 * Where the metrics of a run are: the coordinator and every worker that is there, in a fixed order. A worker that is lost or
 * has left is not listed, so that its series end instead of turning stale one by one; nor is one that keeps its pages to a
 * machine of its own, where nobody here would find them.
 * @param own address of the coordinator's pages, host:port
 * @param here the host by which members dial what is on the coordinator's machine
 * @param secured pages that others than their machine can reach are asked by https
 */
export function targetGroups(
  run: string,
  own: string,
  workers: readonly Scrapable[],
  here: string,
  secured = false,
): TargetGroup[] {
  const hostOf = (address: string) => splitAddress(address)?.host ?? "";
  const scheme = (address: string): Record<string, string> =>
    secured && !isLoopback(hostOf(address)) ? { __scheme__: "https" } : {};
  const isHere = (address: string) => isLoopback(hostOf(address)) || hostOf(address) === here;
  const all = [...workers].sort((a, b) => (a.name < b.name ? -1 : 1));
  return [
    { targets: [own], labels: { run, part: "coordinator", ...scheme(own) } },
    ...all
      .filter(({ httpAddress }) => httpAddress !== "")
      .filter(({ httpAddress, address }) => !isLoopback(hostOf(httpAddress)) || isHere(address))
      .map(({ name, host, httpAddress }) => ({
        targets: [httpAddress],
        labels: { run, part: "worker", worker: name, host, ...scheme(httpAddress) },
      })),
  ];
}

/** Keeps a file of the targets for Prometheus' file service discovery, written anew whenever they change. */
export class TargetsFile {
  readonly #path: string;
  readonly #list: () => readonly TargetGroup[];
  readonly #timer: NodeJS.Timeout;
  #written = "";

  constructor(path: string, list: () => readonly TargetGroup[], every = 1000) {
    this.#path = path;
    this.#list = list;
    this.#timer = setInterval(() => this.#refresh(), every);
    this.#timer.unref();
    this.#refresh();
  }

  /** The run has ended: nobody is to be scraped any more. */
  close(): void {
    clearInterval(this.#timer);
    this.#write([]);
  }

  #refresh(): void {
    this.#write(this.#list());
  }

  #write(groups: readonly TargetGroup[]): void {
    const text = `${JSON.stringify(groups, null, 2)}\n`;
    if (text === this.#written) return;
    try {
      // Renamed in one go: Prometheus never reads half of it. It is made again after a crash, so that nothing is flushed.
      writeFileSync(`${this.#path}.partial`, text);
      renameSync(`${this.#path}.partial`, this.#path);
      this.#written = text;
    } catch {
      // A full disk costs the news of who joined; the next turn tries again.
    }
  }
}
