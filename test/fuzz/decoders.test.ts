import { describe, expect, it } from "vitest";
import { LockstepError } from "../../shared/errors.ts";
import { DECODERS, type Decoder } from "./decoders.ts";
import { play } from "./play.ts";

describe("whatever others send or leave", () => {
  it.each(DECODERS.map((decoder) => [decoder.name, decoder] as const))(
    "%s: is read or refused with a coded error",
    (_name, decoder) => {
      expect(play(decoder, 7, (executions) => executions >= 300).findings).toEqual([]);
    },
  );

  it("a decoder that crashes is found", () => {
    const broken: Decoder = {
      ...DECODERS[0]!,
      decode: (input) => {
        if (input.length > 50) throw new TypeError("x is undefined");
        throw new LockstepError("LS_X", "No.");
      },
    };
    const { findings, refused } = play(broken, 1, (executions) => executions >= 200);
    expect([findings.map(({ what }) => what), refused > 0]).toEqual([["TypeError: x is undefined"], true]);
  });
});
