import { LockstepError } from "../../shared/errors.ts";
import { BLOCK, type Layout } from "../../shared/model/layout.ts";
import type { Arithmetic } from "../arithmetic/arithmetic.ts";
import { CONTROL_BYTES } from "./control.ts";

/**
 * Where everything lies in a worker's shared WebAssembly.Memory. All addresses are byte addresses; regions start on
 * WebAssembly pages (64 KiB), sections inside a region on blocks (4 KiB), so that TensorFlow may share any of them.
 *
 *     control | state: weights, slots, ema | its tables | snapshot | nodes and tables | reduced and tables | loader | receive
 *
 * The state is one contiguous image: a peer pulls it by byte ranges, a checkpoint stores it as it lies there.
 */
export interface Region {
  readonly address: number;
  readonly bytes: number;
}

/** A vector of whole blocks and the table of its block hashes (u64 each). */
export interface HashedVector extends Region {
  readonly floats: number;
  /** Address of the table. */
  readonly table: number;
  /** Hashes in the table: one for each block. */
  readonly entries: number;
}

export interface StateImage extends HashedVector {
  /** Address of the weights: stateFloats floats, where the image begins. */
  readonly weights: number;
  /** Address of another table, for the main thread: two threads that hash at once must not write one. */
  readonly mainTable: number;
  /** Addresses of the optimizer's slots, trainableFloats floats each: momentum, or m and v. */
  readonly slots: readonly number[];
  /** Address of the moving average of the weights: stateFloats floats; null without one. */
  readonly ema: number | null;
}

export interface MemoryPlan {
  readonly control: Region;
  readonly state: StateImage;
  /** Room for a copy of the state image, from which a checkpoint is stored while training goes on. */
  readonly snapshot: Region;
  /** A state that is kept aside for validation, in the form of the state image; null where weights are enough. */
  readonly held: Region | null;
  /** Gradient-sized buffers: see nodeBuffers. */
  readonly nodes: readonly HashedVector[];
  /** The reduced vector of even and of odd steps. */
  readonly reduced: readonly [HashedVector, HashedVector];
  /** Address of a table for the thread that checks a reduced vector: the vector's own belongs to whoever receives it. */
  readonly checkTable: number;
  /** One region for each prepared micro-batch. */
  readonly loader: readonly Region[];
  /** The last region, for what peers send. It begins with these bytes and grows with growReceive. */
  readonly receive: Region;
  /** Bytes of the whole memory before `receive` grows, in whole pages. */
  readonly totalBytes: number;
  readonly pages: number;
}

/** Of two that even and odd steps take in turns: this step's. */
export const ofStep = <Each>(pair: readonly [Each, Each], step: number): Each => pair[step % 2 === 0 ? 0 : 1];

/** Copies a vector with the hashes of its blocks, as they were taken: damage since then still shows in the copy. */
export function copyHashed(
  arithmetic: Pick<Arithmetic, "copy">,
  to: HashedVector,
  from: Pick<HashedVector, "address" | "table">,
): void {
  arithmetic.copy(to.address, from.address, to.bytes);
  arithmetic.copy(to.table, from.table, to.entries * HASH_BYTES);
}

export interface MemoryNeeds {
  readonly layout: Pick<Layout, "trainableFloats" | "stateFloats" | "vectorFloats">;
  /** V. */
  readonly shards: number;
  readonly optimizer: "sgd" | "adamw";
  readonly ema: boolean;
  /** Whether a whole state is kept aside for validation: the run may end at it. */
  readonly held?: boolean;
  /** Prepared micro-batches held at a time, and the bytes of one. */
  readonly loaderSlots: number;
  readonly loaderBytes: number;
  /** First size of the receive region. */
  readonly receiveBytes: number;
}

const PAGE = 65536;
const MOST_PAGES = 65536;
const HASH_BYTES = 8;
const SLOTS = { sgd: 1, adamw: 2 } as const;

/**
 * Gradient-sized buffers that a worker needs for any range of `shards`: the finished maximal nodes to its left, the
 * sums of the node under way, the gradient being computed, and one to spare so that computing never waits for a
 * buffer that is being read. With k = ceil(log2 V) that is max(k + 1, 2k - 1) + 1, at most 2k for V above 4.
 */
export function nodeBuffers(shards: number): number {
  const depth = Math.ceil(Math.log2(shards));
  return Math.max(depth + 1, 2 * depth - 1) + 1;
}

/**
 * Lays out a worker's memory.
 * @throws LockstepError LS_MEMORY_TOO_LARGE where it exceeds the 4 GiB that 32-bit addresses reach.
 */
export function planMemory(needs: MemoryNeeds): MemoryPlan {
  let next = 0;
  const region = (bytes: number): Region => {
    const address = next;
    next = Math.ceil((address + bytes) / PAGE) * PAGE;
    return { address, bytes };
  };
  const hashed = (floats: number): HashedVector => {
    const entries = floats / BLOCK;
    const vector = region(floats * 4);
    return { ...vector, floats, table: region(entries * HASH_BYTES).address, entries };
  };
  const { trainableFloats, stateFloats, vectorFloats } = needs.layout;

  const control = region(CONTROL_BYTES);
  const slots = SLOTS[needs.optimizer];
  const image = hashed(stateFloats + slots * trainableFloats + (needs.ema ? stateFloats : 0));
  const firstSlot = image.address + stateFloats * 4;
  const state: StateImage = {
    ...image,
    weights: image.address,
    mainTable: region(image.entries * HASH_BYTES).address,
    slots: Array.from({ length: slots }, (_, slot) => firstSlot + slot * trainableFloats * 4),
    ema: needs.ema ? firstSlot + slots * trainableFloats * 4 : null,
  };
  const snapshot = region(image.bytes);
  const held = needs.held === true ? region(image.bytes) : null;
  const nodes = Array.from({ length: nodeBuffers(needs.shards) }, () => hashed(vectorFloats));
  const reduced = [hashed(vectorFloats), hashed(vectorFloats)] as const;
  const checkTable = region(reduced[0].entries * HASH_BYTES).address;
  const loader = Array.from({ length: needs.loaderSlots }, () => region(needs.loaderBytes));
  const receive = region(needs.receiveBytes);
  const plan = {
    control,
    state,
    snapshot,
    held,
    nodes,
    reduced,
    checkTable,
    loader,
    receive,
    totalBytes: next,
    pages: next / PAGE,
  };
  if (plan.pages > MOST_PAGES) throw tooLarge(next);
  return plan;
}

/**
 * The shared memory of a plan; untouched pages cost nothing.
 * @throws LockstepError LS_MEMORY_REFUSED where the system does not give the address space.
 */
export function createMemory(plan: MemoryPlan): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: plan.pages, maximum: MOST_PAGES, shared: true });
  } catch (cause) {
    throw new LockstepError("LS_MEMORY_REFUSED", `The system refused ${megabytes(plan.totalBytes)} of shared memory.`, {
      hint: "Start fewer workers on this machine, or raise its limit of address space (ulimit -v).",
      exitCode: 3,
      cause,
    });
  }
}

/**
 * Makes the receive region at least `bytes` large and returns it. Views of `memory.buffer` made before keep working on
 * the older part; threads that read the new part must make new ones.
 * @throws LockstepError LS_MEMORY_TOO_LARGE or LS_MEMORY_REFUSED.
 */
export function growReceive(memory: WebAssembly.Memory, plan: MemoryPlan, bytes: number): Region {
  const { address } = plan.receive;
  const pages = Math.ceil((address + bytes) / PAGE);
  if (pages > MOST_PAGES) throw tooLarge(address + bytes);
  const present = memory.buffer.byteLength / PAGE;
  try {
    if (pages > present) memory.grow(pages - present);
  } catch (cause) {
    throw new LockstepError("LS_MEMORY_REFUSED", `The system refused ${megabytes(bytes)} for received gradients.`, {
      hint: "Start fewer workers on this machine.",
      exitCode: 3,
      cause,
    });
  }
  return { address, bytes: Math.max(pages, present) * PAGE - address };
}

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

const tooLarge = (bytes: number) =>
  new LockstepError("LS_MEMORY_TOO_LARGE", `A worker would need ${megabytes(bytes)}; one memory holds 4294 MB.`, {
    hint: "Use a smaller model, fewer shards (--shards) or a smaller batch (--batch).",
    exitCode: 2,
  });
