import { createHash } from "node:crypto";

/**
 * The hash chain of a state. It does not depend on the number of workers: two runs have the same lineage exactly when
 * they started alike, fed the same samples and applied the same reduced vectors. SHA-256 over a fixed binary form:
 *
 *     root = SHA-256("lockstep-root-1"    recipe[32]  data[32]  state[8])
 *     next = SHA-256("lockstep-lineage-1" parent[32]  step u64  V u32  digests[V * 8]  reduced[8])
 *     fork = SHA-256("lockstep-fork-1"    parent[32]  step u64  recipe[32]  data[32]  state[8])
 *
 * Integers are little-endian, hashes are the bytes that their hex digits spell, the tag is ASCII without terminator.
 */
const ROOT_TAG = Buffer.from("lockstep-root-1", "ascii");
const FORK_TAG = Buffer.from("lockstep-fork-1", "ascii");
const NEXT_TAG = Buffer.from("lockstep-lineage-1", "ascii");
const SHA256_BYTES = 32;
const XXH64_BYTES = 8;

function bytesOf(hex: string, length: number, what: string): Buffer {
  if (hex.length !== 2 * length || !/^[0-9a-f]*$/.test(hex)) {
    throw new RangeError(`${what} is not ${2 * length} lower-case hex digits: ${JSON.stringify(hex)}`);
  }
  return Buffer.from(hex, "hex");
}

/**
 * The lineage before the first step, as 64 hex digits.
 * @param recipeHash SHA-256 of the recipe part (recipeHash in shared/config/canonical.ts), 64 hex digits.
 * @param dataSha256 SHA-256 of the training data, 64 hex digits.
 * @param initialStateHash hash of the initial state image, 16 hex digits.
 * @throws RangeError where one of them has another form.
 */
export function rootLineage(recipeHash: string, dataSha256: string, initialStateHash: string): string {
  return createHash("sha256")
    .update(ROOT_TAG)
    .update(bytesOf(recipeHash, SHA256_BYTES, "the recipe's hash"))
    .update(bytesOf(dataSha256, SHA256_BYTES, "the data's hash"))
    .update(bytesOf(initialStateHash, XXH64_BYTES, "the state's hash"))
    .digest("hex");
}

/**
 * The lineage after `step`, as 64 hex digits.
 * @param parent lineage before the step.
 * @param idsDigests digest of the sample ids that each shard fed to its device, in shard order, 16 hex digits each.
 * @param reducedHash hash of the reduced vector, 16 hex digits.
 * @throws RangeError where one of them has another form.
 */
export function nextLineage(parent: string, step: number, idsDigests: readonly string[], reducedHash: string): string {
  if (!Number.isSafeInteger(step) || step < 0) throw new RangeError(`step ${step}`);
  const position = Buffer.alloc(12);
  position.writeBigUInt64LE(BigInt(step));
  position.writeUInt32LE(idsDigests.length, 8);
  const hash = createHash("sha256")
    .update(NEXT_TAG)
    .update(bytesOf(parent, SHA256_BYTES, "the parent's lineage"))
    .update(position);
  for (const digest of idsDigests) hash.update(bytesOf(digest, XXH64_BYTES, "a shard's digest"));
  return hash.update(bytesOf(reducedHash, XXH64_BYTES, "the reduced vector's hash")).digest("hex");
}

/**
 * Where the line of a run begins that goes on with another run's state under a recipe of its own, as 64 hex digits.
 * @param parent lineage of the other run at `step`.
 * @param stateHash hash of the state that is taken over, 16 hex digits.
 * @throws RangeError where one of them has another form.
 */
export function forkLineage(
  parent: string,
  step: number,
  recipeHash: string,
  dataSha256: string,
  stateHash: string,
): string {
  if (!Number.isSafeInteger(step) || step < 0) throw new RangeError(`step ${step}`);
  const position = Buffer.alloc(8);
  position.writeBigUInt64LE(BigInt(step));
  return createHash("sha256")
    .update(FORK_TAG)
    .update(bytesOf(parent, SHA256_BYTES, "the parent's lineage"))
    .update(position)
    .update(bytesOf(recipeHash, SHA256_BYTES, "the recipe's hash"))
    .update(bytesOf(dataSha256, SHA256_BYTES, "the data's hash"))
    .update(bytesOf(stateHash, XXH64_BYTES, "the state's hash"))
    .digest("hex");
}
