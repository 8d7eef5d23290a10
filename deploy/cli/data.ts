import { join, resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { STL10_FILES, STL10_URL } from "../../shared/data/stl10.ts";
import { expectedBytes, fetchStl10 } from "../data/fetch.ts";
import { cacheDirectory, cachedStl10, resolveDataDirectory } from "../data/locations.ts";
import { FetchDisplay } from "../data/progress.ts";
import { writeSynthetic } from "../data/synthetic.ts";
import { verifyData } from "../data/verify.ts";

/** Adds `lockstep data fetch|verify|synth`. People's text goes to stderr, results to stdout. */
export function registerData(program: Command): void {
  const data = program.command("data").description("get, check or make a data set in the STL-10 layout");

  data
    .command("fetch")
    .description("fetch the labelled part of STL-10 from the official archive")
    .option("--dir <directory>", "where to put it (default: the cache, which all clones share)")
    .option("--url <url>", "another address of stl10_binary.tar.gz", STL10_URL)
    .option("--json", "print one line of JSON on stdout")
    .action((options: { dir?: string; url: string; json?: boolean }) =>
      stoppable((signal) => fetchData(options, signal)),
    );

  data
    .command("verify")
    .argument("[directory]", "the data set (default: what a run would use)")
    .description("read a whole data set and check sizes, labels and, for STL-10, the published checksums")
    .option("--json", "print one line of JSON on stdout")
    .action((directory: string | undefined, options: { json?: boolean }) =>
      stoppable((signal) => verify(directory, options, signal)),
    );

  data
    .command("synth")
    .description("write a learnable generated set: shapes and textures, the same bytes for the same options")
    .requiredOption("--dir <directory>", "where to put it")
    .option("--train <images>", "training images", wholeNumber, 1000)
    .option("--test <images>", "test images", wholeNumber, 500)
    .option("--classes <classes>", "classes, up to 20", wholeNumber, 10)
    .option("--side <pixels>", "side of the images", wholeNumber, 96)
    .option("--seed <seed>", "seed of the generator", wholeNumber, 1)
    .option("--json", "print one line of JSON on stdout")
    .action((options: SynthOptions) => stoppable((signal) => synth(options, signal)));
}

async function fetchData(options: { dir?: string; url: string; json?: boolean }, signal: AbortSignal): Promise<void> {
  const directory = options.dir === undefined ? cachedStl10(cacheDirectory()) : resolve(options.dir);
  const display = new FetchDisplay(process.stderr);
  const size = Math.round(expectedBytes(STL10_FILES) / 1e6);
  display.message(
    `STL-10, labelled part: about ${size} MB of the 2.64 GB archive at ${options.url}, 360 MB unpacked in ` +
      `${directory}; a minute or two at 5 MB/s.`,
  );
  try {
    const fetched = await fetchStl10({
      directory,
      url: options.url,
      signal,
      onProgress: (progress) => display.progress(progress),
      onMessage: (message) => display.message(message),
    });
    display.message(fetched ? "All four files are complete, their MD5 is right." : "All files are there already.");
    if (options.json) printJson({ directory, fetched });
    else process.stdout.write(`${directory}\n`);
  } finally {
    display.end();
  }
}

async function verify(given: string | undefined, options: { json?: boolean }, signal: AbortSignal): Promise<void> {
  const { directory } = await resolveDataDirectory({ option: given });
  const found = await verifyData(directory, signal);
  if (options.json) return printJson(found);
  const { trainImages, testImages, channels, height, width, classNames, folds } = found;
  process.stdout.write(
    `${[
      `${directory}: ${found.official ? "the official STL-10, all four MD5 are right" : "a data set in the STL-10 layout"}`,
      `${trainImages} training and ${testImages} test images of ${channels}x${height}x${width}, ${folds} folds`,
      `${classNames.length} classes: ${classNames.join(", ")}`,
      `SHA-256 of the training files: ${found.trainingSha256}`,
    ].join("\n")}\n`,
  );
}

interface SynthOptions {
  readonly dir: string;
  readonly train: number;
  readonly test: number;
  readonly classes: number;
  readonly side: number;
  readonly seed: number;
  readonly json?: boolean;
}

async function synth({ dir, json, ...options }: SynthOptions, signal: AbortSignal): Promise<void> {
  const directory = resolve(dir);
  await writeSynthetic(directory, { ...options, signal });
  if (json) printJson({ directory, ...options });
  else process.stdout.write(`${directory}\n`);
  process.stderr.write(`Look at it with: npx lockstep data verify ${join(dir)}\n`);
}

/** Runs an action that SIGINT and SIGTERM end early. */
async function stoppable(action: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    await action(stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    process.stderr.write("\nInterrupted; run the command again to go on.\n");
    process.exitCode = 130;
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

const printJson = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It should be a whole number.");
  return Number(text);
}
