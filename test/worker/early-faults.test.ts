import { expect, it } from "vitest";
import { parseFault } from "../../shared/faults/fault.ts";
import { EarlyFaults } from "../../worker/faults/early-faults.ts";

it("a worker that is made slow while it loads is slow when it has loaded; one that is to die then dies at once", () => {
  const early = new EarlyFaults();
  const handed: unknown[] = [];
  const faults = { inject: (fault: unknown) => void handed.push(fault) };
  early.inject(parseFault("slow:250")!);
  early.inject(parseFault("kill@exchange")!);
  expect(() => early.inject(parseFault("exception")!)).toThrow("injected exception");
  early.handTo(faults);
  early.handTo(faults);
  expect(handed).toMatchObject([{ name: "slow", millis: 250, moment: null }, { name: "kill" }]);
});
