import { describe, expect, it } from "vitest";
import { exchangedBytes, LINKS, linkLimitMillis } from "./links/link.ts";
import { RawTransfer } from "./links/raw-transfer.ts";

describe("links between hosts", () => {
  it("need at least the time of their bits, and both phases their way", () => {
    const [fast, slow, far] = LINKS;
    expect(exchangedBytes(2, 44.7e6)).toBe(44.7e6);
    expect(exchangedBytes(4, 44.7e6)).toBeCloseTo(67.05e6, 3);
    expect(linkLimitMillis(fast!, 44.7e6)).toBeCloseTo(35.76, 6);
    expect(linkLimitMillis(slow!, 44.7e6)).toBeCloseTo(357.6, 6);
    expect(linkLimitMillis(far!, 44.7e6)).toBeCloseTo(3596, 6);
  });

  it("carry the same bytes both ways over bare TCP, again and again", async () => {
    const host = "127.0.0.1";
    const members = [new RawTransfer(), new RawTransfer(), new RawTransfer()];
    const ports = await Promise.all(members.map((member) => member.listen(host)));
    const peersOf = (self: number) => ports.filter((_, i) => i !== self).map((port) => ({ host, port }));
    await Promise.all(members.map((member, i) => member.connect(peersOf(i))));
    for (const bytes of [1, 3_000_000, 70_000]) {
      const millis = await Promise.all(members.map((member) => member.run(bytes)));
      expect(millis.every((each) => each > 0)).toBe(true);
    }
    for (const member of members) member.close();
  });
});
