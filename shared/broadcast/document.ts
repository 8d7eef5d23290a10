import { broadcastJsonSchemas } from "./schema.ts";

/** The documentation of what is broadcast: README.md beside this file, which a test keeps fresh. */
export function broadcastDocument(): string {
  const kinds = Object.entries(broadcastJsonSchemas()).map(([kind, schema]) => {
    const { description, properties, required } = schema as JsonSchema;
    const rows = Object.entries(properties).map(([name, property]) => {
      const words = property.description ?? "";
      return `| \`${name}\`${required.includes(name) ? "" : " (optional)"} | ${typeOf(property)} | ${words} |`;
    });
    const [subject, what] = description.split(": ");
    return [
      `## ${kind}`,
      "",
      `\`${subject}\`: ${what}.`,
      "",
      "| field | type | meaning |",
      "|---|---|---|",
      ...rows,
      "",
    ].join("\n");
  });
  return `# What a run broadcasts on NATS

Version 1 of the schema, made from schema.ts. Messages are JSON objects in UTF-8; fields may be added within a version, never
changed. The address of the server stands in the run's endpoints.json.

| subject | what |
|---|---|
| \`lockstep.v1.<run id>.step\` | every final step, from each member of its view and from the coordinator |
| \`lockstep.v1.<run id>.epoch\` | every finished epoch, likewise |
| \`lockstep.v1.<run id>.event\` | views, losses, heals, checkpoints, phases: from the coordinator |
| \`lockstep.v1.<run id>.worker.<name>\` | how a worker is doing, about once a second |

\`nats sub 'lockstep.v1.>'\` shows all runs of a server, \`npx lockstep watch\` the newest run here. The copies of a step or an
epoch have the same \`view\` and \`step\`: whoever needs each one once drops repeats by these two. NATS delivers at most once, so a
message may be missing; nothing that a run needs travels here, and a server that is slow, frozen or away changes nothing but the
counter \`lockstep_nats_dropped_messages_total\`.

${kinds.join("\n")}`;
}

interface JsonSchema {
  readonly description: string;
  readonly required: readonly string[];
  readonly properties: Readonly<Record<string, Property>>;
}

interface Property {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly anyOf?: readonly Property[];
  readonly items?: Property;
  readonly additionalProperties?: Property | boolean;
}

function typeOf({ type, anyOf, items, additionalProperties }: Property): string {
  if (anyOf !== undefined) return anyOf.map(typeOf).join(" or ");
  if (items !== undefined) return `array of ${typeOf(items)}`;
  if (typeof additionalProperties === "object") return `object of ${typeOf(additionalProperties)}`;
  return typeof type === "string" ? type : (type?.join(" or ") ?? "any");
}
