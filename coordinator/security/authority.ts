import "reflect-metadata";
import { createHash, KeyObject, randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import { certificateNames, type Role, serialOf } from "../../shared/security/names.ts";
import type { Credentials } from "../../shared/security/trust.ts";

x509.cryptoProvider.set(webcrypto as Crypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
/** Clocks of machines differ; a certificate counts from this long before it was issued, in milliseconds. */
const BEFORE_MILLIS = 3_600_000;
const AUTHORITY_MILLIS = 10 * 365 * 86_400_000;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

export interface Issued {
  /** PEM. */
  readonly certificate: string;
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

export interface Subject {
  readonly role: Role;
  /** A worker's incarnation, or what lists call the holder. */
  readonly name: string;
  /** Name of the token by which a worker came. */
  readonly token?: string;
  /** Public key, SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /** Machines by whose names it may be dialled as well, for clients that know no roles. */
  readonly hosts?: readonly string[];
}

/**
 * A run's own certificate authority (X.509, RFC 5280). Its hash is in every join token; it issues certificates that say
 * for whom they speak, for short times.
 */
export class Authority {
  readonly #certificate: x509.X509Certificate;
  readonly #key: webcrypto.CryptoKey;
  /** PEM. */
  readonly certificate: string;
  /** SHA-256 of the certificate (DER), in hexadecimal. */
  readonly hash: string;

  private constructor(certificate: x509.X509Certificate, key: webcrypto.CryptoKey) {
    this.#certificate = certificate;
    this.#key = key;
    this.certificate = pemOf(certificate);
    this.hash = hashOf({ raw: Buffer.from(certificate.rawData) });
  }

  /** A new one, and its private key (PEM) to keep. */
  static async create(run: string, now = Date.now()): Promise<{ readonly authority: Authority; readonly key: string }> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: newSerial(),
      name: [{ CN: [`Lockstep run ${run}`] }],
      notBefore: new Date(now - BEFORE_MILLIS),
      notAfter: new Date(now + AUTHORITY_MILLIS),
      keys: keys as CryptoKeyPair,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as CryptoKey),
      ],
    });
    return { authority: new Authority(certificate, keys.privateKey), key: privatePem(keys.privateKey) };
  }

  /** One that was kept. @throws where the key is none */
  static async open(certificate: string, key: string): Promise<Authority> {
    const der = Buffer.from(key.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const imported = await webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, true, ["sign"]);
    return new Authority(new x509.X509Certificate(certificate), imported);
  }

  /** @param lifetime in milliseconds */
  async issue(
    { role, name, token = "", publicKey, hosts = [] }: Subject,
    lifetime: number,
    now = Date.now(),
  ): Promise<Issued> {
    const serial = newSerial();
    const names = certificateNames(role, name).map((value) => ({ type: "dns" as const, value }));
    const machines = hosts.map((value) => ({ type: isIP(value) === 0 ? ("dns" as const) : ("ip" as const), value }));
    const until = now + lifetime;
    const key = await webcrypto.subtle.importKey("spki", publicKey, ALGORITHM, true, ["verify"]);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serial,
      subject: [...(token === "" ? [] : [{ O: [token] }]), { OU: [role] }, { CN: [name] }],
      issuer: this.#certificate.subjectName.toJSON(),
      notBefore: new Date(now - BEFORE_MILLIS),
      notAfter: new Date(until),
      publicKey: key as CryptoKey,
      signingKey: this.#key as CryptoKey,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
        ...(names.length + machines.length === 0
          ? []
          : [new x509.SubjectAlternativeNameExtension([...names, ...machines])]),
      ],
    });
    return { certificate: pemOf(certificate), serial: serialOf(serial), until };
  }

  /** A key of our own with its certificate. Servers show the authority as well, for whoever knows only its hash. */
  async equip(
    subject: Omit<Subject, "publicKey">,
    lifetime: number,
  ): Promise<Credentials & { readonly until: number }> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const publicKey = new Uint8Array(await webcrypto.subtle.exportKey("spki", keys.publicKey));
    const { certificate, until } = await this.issue({ ...subject, publicKey }, lifetime);
    const chain = `${certificate}${this.certificate}`;
    return { authority: this.certificate, certificate: chain, key: privatePem(keys.privateKey), until };
  }
}

/** By what join tokens name an authority: SHA-256 of its certificate (DER), in hexadecimal. */
export const hashOf = ({ raw }: { readonly raw: Buffer }): string => createHash("sha256").update(raw).digest("hex");

/** Positive, and with the same digits in everybody's notation. */
const newSerial = (): string => {
  const bytes = randomBytes(16);
  bytes[0] = 0x40 | (bytes[0]! & 0x3f);
  return bytes.toString("hex");
};

const pemOf = (certificate: x509.X509Certificate): string =>
  new X509Certificate(Buffer.from(certificate.rawData)).toString();

const privatePem = (key: webcrypto.CryptoKey): string =>
  KeyObject.from(key).export({ type: "pkcs8", format: "pem" }).toString();
