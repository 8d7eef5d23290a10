/**
 * A folder that holds all that a machine without a network needs. `SHA256SUMS` is written last and is in the form that
 * sha256sum checks, so that a folder without it is no whole pack.
 */
export const SUMS = "SHA256SUMS";
export const CHECKOUT = "lockstep.tar.gz";
/** npm's packages; the bootstrap knows this name too, since it unpacks them before anything else can run. */
export const PACKAGES = "packages.tar.gz";
export const WHEELS = "wheels";
export const ADDONS = "addon";
export const DATA = "data/stl10_binary";

/** SHA-256, in hexadecimal, by path inside the folder. */
export type Sums = ReadonlyMap<string, string>;

export const formatSums = (sums: Sums): string => [...sums].map(([path, hash]) => `${hash}  ${path}\n`).join("");

/** Lines of another form are left out: what they name does not count as there. */
export function parseSums(text: string): Sums {
  const sums = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, hash, path] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) ?? [];
    if (hash !== undefined && path !== undefined) sums.set(path, hash);
  }
  return sums;
}

/** What lies beside the files, for whoever finds the folder. */
export const readmeOf = (
  version: string,
  what: string,
): string => `Lockstep ${version} for machines without a network: ${what}.
They need Linux x86-64 and Node 20.18.1 or newer, 22 or 24; no compiler. With this folder as DIR:

  (cd DIR && sha256sum -c ${SUMS})              is the copy whole?
  tar -xzf DIR/${CHECKOUT}                 makes ./lockstep
  cd lockstep
  node deploy/lockstep.mjs setup --from DIR     checks each file and sets it up
  npx lockstep doctor
`;
