import { createRequire } from "node:module";
import type library from "sharp";

/** sharp by its CommonJS door: behind the other one it imports JSON as a module, of which Node 20.18 warns people. */
export const sharp = createRequire(import.meta.url)("sharp") as typeof library;
