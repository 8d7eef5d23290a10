import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { EnvHttpProxyAgent, fetch } from "undici";
import { z } from "zod";
import { LockstepError } from "../../shared/errors.ts";

/** A file of a package on a Python index. */
export interface IndexFile {
  readonly filename: string;
  readonly url: string;
  readonly sha256: string;
  /** Bytes; 0 where the index does not say. */
  readonly size: number;
}

const DEFAULT_INDEX = "https://pypi.org/simple";
const pageSchema = z.object({
  files: z.array(
    z.object({
      filename: z.string(),
      url: z.string(),
      hashes: z.record(z.string(), z.string()),
      size: z.number().optional(),
    }),
  ),
});

/** All HTTP of set-up honours HTTP_PROXY, HTTPS_PROXY and NO_PROXY. */
export const dispatcher = new EnvHttpProxyAgent();

/** The index that pip would use: PIP_INDEX_URL, else the configuration files, else pypi.org. */
export function indexUrl(env: NodeJS.ProcessEnv = process.env): string {
  if (env.PIP_INDEX_URL) return env.PIP_INDEX_URL;
  const home = env.HOME ?? homedir();
  const files = [env.PIP_CONFIG_FILE, join(home, ".config/pip/pip.conf"), join(home, ".pip/pip.conf"), "/etc/pip.conf"];
  for (const file of files) {
    if (file === undefined || !existsSync(file)) continue;
    const url = indexUrlOf(readFileSync(file, "utf8"));
    if (url !== null) return url;
  }
  return DEFAULT_INDEX;
}

/** index-url in the [global] or [install] section of a pip.conf. */
export function indexUrlOf(text: string): string | null {
  let section = "";
  for (const line of text.split("\n")) {
    const heading = /^\s*\[([^\]]+)\]/.exec(line);
    if (heading !== null) section = heading[1]!;
    const setting = /^\s*index[-_]url\s*[=:]\s*(\S+)/.exec(line);
    if (setting !== null && (section === "global" || section === "install")) return setting[1]!;
  }
  return null;
}

/**
 * The files of a package (PEP 691, JSON form).
 * @throws LockstepError LS_INDEX where the index does not answer
 */
export async function filesOf(name: string, index = indexUrl()): Promise<IndexFile[]> {
  const page = new URL(`${index.replace(/\/+$/, "")}/${name}/`);
  const headers: Record<string, string> = { accept: "application/vnd.pypi.simple.v1+json" };
  if (page.username !== "") {
    headers.authorization = `Basic ${Buffer.from(`${decodeURIComponent(page.username)}:${decodeURIComponent(page.password)}`).toString("base64")}`;
    page.username = "";
    page.password = "";
  }
  try {
    const response = await fetch(page, { headers, dispatcher, signal: AbortSignal.timeout(30_000) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    const { files } = pageSchema.parse(await response.json());
    return files.map(({ filename, url, hashes, size }) => ({
      filename,
      url: new URL(url, page).href,
      sha256: hashes.sha256 ?? "",
      size: size ?? 0,
    }));
  } catch (cause) {
    throw new LockstepError("LS_INDEX", `The Python package index ${page.host} cannot be reached: ${reason(cause)}.`, {
      hint: "Check the network, or set PIP_INDEX_URL or a proxy as for pip.",
      exitCode: 3,
      cause,
    });
  }
}

export const reason = (error: unknown): string => {
  const { cause, message } = error as Error;
  return cause instanceof Error && cause.message !== "" ? cause.message : message;
};
