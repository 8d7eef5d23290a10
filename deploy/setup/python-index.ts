import { fetch } from "undici";
import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";
import { type PipSettings, pipSettings } from "./pip-settings.ts";
import { reasonOf, webDispatcher, withoutCredentials } from "./web.ts";

/** A file of a package on a Python index. What it must hold is pinned: nothing else that an index says of it counts. */
export interface IndexFile {
  readonly filename: string;
  readonly url: string;
  /** For a file of the host that asked for credentials; null elsewhere. */
  readonly authorization: string | null;
}

const JSON_FORM = "application/vnd.pypi.simple.v1+json";
const ACCEPT = `${JSON_FORM}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1`;
const ANSWER_MILLIS = 30_000;

const pageSchema = z.object({ files: z.array(z.object({ filename: z.string(), url: z.string() })) });

/**
 * A file of a package, where the first index that has it lists it (PEP 691; the older HTML form, PEP 503, where an
 * index knows no other). Withdrawn files count: whoever pins one means it (PEP 592).
 * @throws LockstepError LS_INDEX where no index has it
 */
export async function indexFile(
  name: string,
  filename: string,
  settings: PipSettings = pipSettings(),
): Promise<IndexFile> {
  const complaints: string[] = [];
  for (const index of settings.indexes) {
    try {
      const files = await askIndex(name, index, settings);
      const found = files.find((file) => file.filename === filename);
      if (found !== undefined) return found;
      complaints.push(`${hostOf(index)} has no ${filename}`);
    } catch (error) {
      if (error instanceof LockstepError) throw error;
      complaints.push(`${hostOf(index)}: ${reasonOf(error)}`);
    }
  }
  throw new LockstepError("LS_INDEX", `The Python package index does not give ${name} (${complaints.join("; ")}).`, {
    hint: "Check the network, or set index (PIP_INDEX_URL) and proxy (HTTPS_PROXY) as for pip.",
    exitCode: 3,
  });
}

async function askIndex(name: string, index: string, settings: PipSettings): Promise<IndexFile[]> {
  const { url: page, authorization } = withoutCredentials(`${index.replace(/\/+$/, "")}/${name}/`);
  const dispatcher = webDispatcher(settings);
  try {
    const response = await fetch(page, {
      headers: { accept: ACCEPT, ...(authorization !== null && { authorization }) },
      dispatcher,
      signal: AbortSignal.timeout(ANSWER_MILLIS),
    });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    // The page may have moved; links are relative to where it was found.
    const base = response.url === "" ? page.href : response.url;
    const files = isJson ? parseJsonPage(await response.json(), base) : parseHtmlPage(await response.text(), base);
    return files.map((file) => ({
      ...file,
      authorization: new URL(file.url).origin === page.origin ? authorization : null,
    }));
  } finally {
    await dispatcher.close();
  }
}

/** What is said of an index whose answer cannot be read. */
export const NO_LIST = "its answer is no list of files";

type Listed = Omit<IndexFile, "authorization">;

/** PEP 691. @throws Error with a sentence where the page is no list of files: another index may have one */
export function parseJsonPage(page: unknown, base: string): Listed[] {
  const { success, data } = pageSchema.safeParse(page);
  if (!success) throw new Error(NO_LIST);
  return data.files.map(({ filename, url }) => ({ filename, url: new URL(url, base).href }));
}

/** PEP 503: anchors whose text is the file's name; the fragment of a link holds a hash. */
export function parseHtmlPage(html: string, base: string): Listed[] {
  const files: Listed[] = [];
  for (const [, attributes = "", text = ""] of html.matchAll(/<a\s([^>]*)>([^<]*)<\/a>/gi)) {
    const href = /href\s*=\s*["']([^"']+)["']/i.exec(attributes)?.[1]?.replaceAll("&amp;", "&");
    if (href === undefined) continue;
    const url = new URL(href, base);
    url.hash = "";
    files.push({ filename: text.trim(), url: url.href });
  }
  return files;
}

const hostOf = (index: string): string => {
  try {
    return new URL(index).host;
  } catch {
    return "an index without a valid address";
  }
};
