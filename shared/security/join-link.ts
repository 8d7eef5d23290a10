import { LockstepError } from "../errors.ts";
import { hostPort, splitAddress } from "../process/addresses.ts";

/**
 * What one machine needs to join a run, as one word: `lockstep://host:port/<token>`. The token holds the SHA-256 of the
 * run's certificate authority, by which the joiner knows whom it speaks to, the name of a secret, and the secret itself.
 * The form is that of Docker Swarm's and kubeadm's join tokens: a version, the hash, the secret.
 */
export interface JoinToken {
  /** SHA-256 of the authority's certificate (DER), 64 hexadecimal digits. */
  readonly authority: string;
  /** Eight hexadecimal digits: what lists and logs call it. */
  readonly id: string;
  /** 32 hexadecimal digits, 128 random bits. */
  readonly secret: string;
}

export interface JoinLink {
  /** host:port of the coordinator. */
  readonly address: string;
  /** null: certificates are supplied by the user. */
  readonly token: JoinToken | null;
}

const TOKEN = /^ls1-([0-9a-f]{64})-([0-9a-f]{8})-([0-9a-f]{32})$/;
const LONGEST = 400;

export const formatToken = ({ authority, id, secret }: JoinToken): string => `ls1-${authority}-${id}-${secret}`;

export const formatLink = (host: string, port: number, token: JoinToken): string =>
  `lockstep://${hostPort(host, port)}/${formatToken(token)}`;

/** @throws LockstepError LS_JOIN_LINK, which never repeats the secret */
export function parseLink(text: string): JoinLink {
  const wrong = (what: string) =>
    new LockstepError("LS_JOIN_LINK", `The link to join by is not whole: ${what}.`, {
      hint: "Copy the whole line that the coordinator printed, or make a new one: npx lockstep token create RUN.",
      exitCode: 2,
    });
  if (text.length > LONGEST) throw wrong(`it has ${text.length} characters`);
  const parts = /^lockstep:\/\/([^/\s]+)(?:\/([^/\s]*))?\/?$/.exec(text);
  if (parts === null) throw wrong("it should be lockstep://host:port/token");
  const address = splitAddress(parts[1]!);
  if (address === null) throw wrong(`"${parts[1]}" is not host:port`);
  const link = hostPort(address.host, address.port);
  if (parts[2] === undefined || parts[2] === "") return { address: link, token: null };
  const token = TOKEN.exec(parts[2]);
  if (token === null) throw wrong("its token is cut off or of another version");
  return { address: link, token: { authority: token[1]!, id: token[2]!, secret: token[3]! } };
}
