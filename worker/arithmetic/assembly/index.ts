// The one arithmetic of a run. Everything that sums over the tree or touches the state happens in this module, so that
// the bits do not depend on who computes them. Each operation rounds to float32 once; there is no fused multiply-add
// and no relaxed SIMD; WebAssembly keeps IEEE denormals. The module has no data and no heap in the memory.
export { add, addBf16, scale, roundBf16, packBf16, unpackBf16, copy, zero, plus } from "./vector";
export { xxh64, blockHashes } from "./hash";
export { sgd, adamw, ema, movingStatistics } from "./update";
export { sumOfSquares, hashedSquares, allFinite } from "./norm";
