import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** What pip would use to reach the Python index; see "Configuration" in pip's documentation. */
export interface PipSettings {
  /** Base addresses of indexes, the first one asked first; credentials may stand in them. */
  readonly indexes: readonly string[];
  /** File with certificates to trust besides Node's own. */
  readonly certificates: string | null;
  readonly proxy: string | null;
}

export const DEFAULT_INDEX = "https://pypi.org/simple";

/** Keys of the sections [global] and [install], with - for _. */
type Values = Readonly<Record<string, string>>;

/**
 * pip's files from weakest to strongest, then its environment variables.
 * @param read the text of a file, null where there is none
 */
export function pipSettings(env: NodeJS.ProcessEnv = process.env, read = readIfThere): PipSettings {
  const values: Record<string, string> = {};
  for (const file of configurationFiles(env)) Object.assign(values, parseConfiguration(read(file) ?? ""));
  const setting = (key: string): string | undefined =>
    env[`PIP_${key.replaceAll("-", "_").toUpperCase()}`]?.trim() || values[key];
  const extra = setting("extra-index-url")?.split(/\s+/) ?? [];
  return {
    indexes: [setting("index-url") || DEFAULT_INDEX, ...extra].filter((url) => url !== ""),
    certificates: setting("cert") ?? null,
    proxy: setting("proxy") ?? null,
  };
}

/** PIP_CONFIG_FILE is the strongest; the null device there turns all files off, another one the user's own. */
export function configurationFiles(env: NodeJS.ProcessEnv): string[] {
  const named = env.PIP_CONFIG_FILE;
  if (named === "/dev/null") return [];
  const home = env.HOME || homedir();
  const systems = (env.XDG_CONFIG_DIRS || "/etc/xdg").split(":").reverse();
  const user = [join(home, ".pip", "pip.conf"), join(env.XDG_CONFIG_HOME || join(home, ".config"), "pip", "pip.conf")];
  return [
    ...systems.filter((folder) => folder !== "").map((folder) => join(folder, "pip", "pip.conf")),
    "/etc/pip.conf",
    ...(named ? [] : user),
    ...(env.VIRTUAL_ENV ? [join(env.VIRTUAL_ENV, "pip.conf")] : []),
    ...(named ? [named] : []),
  ];
}

/** The INI form of Python's configparser, as far as pip uses it: continued lines, # and ; comments. */
export function parseConfiguration(text: string): Values {
  const sections: Record<string, Record<string, string>> = {};
  let section = "";
  let key: string | null = null;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;].*)?$/.test(line)) continue;
    const heading = /^\[([^\]]+)\]/.exec(line);
    const setting = /^([^\s:=][^:=]*?)\s*[:=]\s*(.*)$/.exec(line);
    sections[section] ??= {};
    const values = sections[section]!;
    if (heading !== null) {
      section = heading[1]!.trim();
      key = null;
    } else if (/^\s/.test(line) && key !== null) {
      values[key] = `${values[key]} ${line.trim()}`.trim();
    } else if (setting !== null) {
      key = setting[1]!.trim().toLowerCase().replaceAll("_", "-");
      values[key] = setting[2]!.trim();
    }
  }
  return { ...sections.global, ...sections.install };
}

function readIfThere(file: string): string | null {
  try {
    return existsSync(file) ? readFileSync(file, "utf8") : null;
  } catch {
    // Unreadable counts as absent, as with pip.
    return null;
  }
}
