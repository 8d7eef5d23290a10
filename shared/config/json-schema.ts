import { z } from "zod";
import { configSchema } from "./schema.ts";

/** JSON Schema (draft 2020-12) of config.json, for editors and documentation. Relations between values are not in it. */
export const configJsonSchema = (): object => ({ ...z.toJSONSchema(configSchema), title: "Lockstep config.json" });
