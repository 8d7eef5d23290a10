import { describe, expect, it, vi } from "vitest";
import { Admission, otherMake } from "../../coordinator/admission.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../shared/protocol/messages.ts";
import type { Incarnation } from "../../shared/protocol/view.ts";
import { make } from "../../shared/version.ts";
import { helloOf } from "./support.ts";

type Hello = Extract<WorkerMessage, { kind: "hello" }>;
type Ready = Extract<WorkerMessage, { kind: "ready" }>;

const A = "aaaaaaaaaaaaaaaa" as Incarnation;
const B = "bbbbbbbbbbbbbbbb" as Incarnation;
const C = "cccccccccccccccc" as Incarnation;
const view = { term: 1, number: 1 };
const readyIn = (seen: typeof view | null) =>
  ({ kind: "ready", fingerprint: [], root: "", standing: { view: seen } }) as unknown as Ready;

/** An admission of which every dial and its answers are in the test's hands; `broken`: what the coordinator cannot reach. */
function admission(broken: Map<Incarnation, string> = new Map(), silent = false) {
  const sent: { to: Incarnation; message: CoordinatorMessage }[] = [];
  const admitted: Incarnation[] = [];
  const dialled: Incarnation[] = [];
  const notes: string[] = [];
  const members = new Set<Incarnation>();
  const it_ = new Admission({
    send: (to, message) => sent.push({ to, message }),
    dial: async (_address, incarnation) => {
      dialled.push(incarnation);
      return silent ? new Promise(() => {}) : (broken.get(incarnation) ?? null);
    },
    members: () => members,
    admit: (from) => admitted.push(from),
    note: (text) => notes.push(text),
    ...{ patience: 60, pause: 1 },
  });
  const greet = (incarnation: Incarnation) => it_.hello(helloOf(incarnation) as Hello);
  const answer = (from: Incarnation, incarnation: Incarnation, failure = "") =>
    it_.dialled(from, { kind: "dialled", incarnation, failure });
  const let_ = async (incarnation: Incarnation) => {
    greet(incarnation);
    it_.ready(incarnation, readyIn(null));
    await vi.waitFor(() => expect(admitted).toContain(incarnation));
  };
  return { admission: it_, sent, admitted, dialled, notes, members, greet, answer, letIn: let_ };
}

describe("a worker before its first view", () => {
  it("is dialled by the coordinator and every member, dials them, and is ready then", async () => {
    const { admission: it_, sent, admitted, greet, answer, letIn } = admission();
    await letIn(A);
    greet(B);
    it_.ready(B, readyIn(null));
    expect(sent.map(({ to, message }) => [to, message])).toEqual([
      [A, { kind: "dial", incarnation: B, address: helloOf(B).address }],
      [B, { kind: "dial", incarnation: A, address: helloOf(A).address }],
    ]);
    answer(A, B);
    expect(admitted).toEqual([A]);
    answer(B, A);
    await vi.waitFor(() => expect(admitted).toEqual([A, B]));
  });

  it.each([
    ["others cannot reach", A, B],
    ["cannot reach others", B, A],
  ])("that %s is kept out, with the reason, until it is reached", async (_what, from, to) => {
    const { admission: it_, admitted, notes, greet, answer, letIn } = admission();
    await letIn(A);
    greet(B);
    it_.ready(B, readyIn(null));
    answer(to, from);
    answer(from, to, "no route");
    await vi.waitFor(() => expect(it_.reasonOf(B)).toContain("no route"));
    expect(notes).toEqual([expect.stringMatching(/is not let in: .* cannot reach .*: no route$/)]);
    expect(admitted).toEqual([A]);
    await vi.waitFor(() => {
      answer(A, B);
      answer(B, A);
      expect(admitted).toEqual([A, B]);
    });
    expect(it_.reasonOf(B)).toBeNull();
  });

  it("that the coordinator itself cannot reach is kept out", async () => {
    const broken = new Map([[A, "connect ECONNREFUSED"]]);
    const { admission: it_, admitted, greet } = admission(broken);
    greet(A);
    it_.ready(A, readyIn(null));
    await vi.waitFor(() => expect(it_.reasonOf(A)).toContain("the coordinator cannot reach"));
    expect(admitted).toEqual([]);
    broken.clear();
    await vi.waitFor(() => expect(admitted).toEqual([A]));
  });

  it("is not kept out by one that is not in the view and may be cut off itself", async () => {
    const { admission: it_, sent, admitted, members, greet, answer, letIn } = admission();
    await letIn(A);
    greet(B);
    it_.ready(B, readyIn(view));
    members.add(A);
    greet(C);
    it_.ready(C, readyIn(null));
    expect(sent.map(({ to }) => to)).toEqual([A, C]);
    answer(A, C);
    answer(C, A);
    await vi.waitFor(() => expect(admitted).toEqual([A, B, C]));
  });

  it("does not wait for a member that is frozen, nor for one that is gone", async () => {
    const { admission: it_, admitted, greet, answer, letIn } = admission();
    await letIn(A);
    greet(B);
    it_.ready(B, readyIn(null));
    answer(B, A);
    await vi.waitFor(() => expect(admitted).toEqual([A, B]));
    greet(C);
    it_.ready(C, readyIn(null));
    answer(B, C);
    answer(C, B);
    it_.ended(A);
    await vi.waitFor(() => expect(admitted).toEqual([A, B, C]));
  });

  it("that says again that it is ready, after a redial, is not examined by itself", async () => {
    const { admission: it_, sent, admitted, greet, answer, letIn } = admission();
    await letIn(A);
    greet(B);
    it_.ready(B, readyIn(null));
    greet(B);
    it_.ready(B, readyIn(null));
    answer(A, B);
    answer(B, A);
    await vi.waitFor(() => expect(admitted).toEqual([A, B]));
    expect(sent).toHaveLength(2);
    greet(C);
    it_.ready(C, readyIn(null));
    expect(sent.slice(2).map(({ to }) => to)).toEqual([A, C, B, C]);
  });

  it("is dialled while others that nobody reaches are, so many at a time", async () => {
    const { admission: it_, admitted, dialled, greet } = admission(new Map(), true);
    const many = Array.from({ length: 20 }, (_, n) => n.toString(16).padStart(16, "0") as Incarnation);
    for (const one of many) {
      greet(one);
      it_.ready(one, readyIn(null));
    }
    expect(dialled).toEqual(many.slice(0, 16));
    await vi.waitFor(() => expect(admitted).toEqual(many));
    expect(dialled).toEqual(many);
  });

  it("and one that comes beside it reach each other, or the later one is kept out", async () => {
    const { admission: it_, sent, admitted, greet, answer } = admission();
    for (const one of [A, B, C]) {
      greet(one);
      it_.ready(one, readyIn(null));
    }
    expect(sent.map(({ to, message }) => `${to[0]}>${"incarnation" in message ? message.incarnation[0] : ""}`)).toEqual(
      [...["a>b", "b>a"], ...["a>c", "c>a", "b>c", "c>b"]],
    );
    for (const [from, to] of [
      [A, C],
      [C, A],
      [B, C],
      [C, B],
    ] as const)
      answer(from, to);
    answer(A, B, "no route");
    answer(B, A);
    await vi.waitFor(() => expect(admitted).toEqual([A, C]));
    expect(it_.reasonOf(B)).toContain("no route");
  });

  it("does not stay out for one that came before it and is not let in itself", async () => {
    const { admission: it_, admitted, greet, answer } = admission(new Map([[A, "connect ECONNREFUSED"]]));
    for (const one of [A, B]) {
      greet(one);
      it_.ready(one, readyIn(null));
    }
    answer(A, B, "no route");
    answer(B, A, "no route");
    await vi.waitFor(() => expect(admitted).toEqual([B]));
    expect(it_.reasonOf(A)).toContain("the coordinator cannot reach");
  });

  it("is not taken to be ready by a hello after a redial; one that was in a view is", () => {
    const { admission: it_, admitted } = admission();
    const standing = { view: null } as never;
    expect(it_.hello({ ...(helloOf(A) as Hello), standing }).standing).toBeNull();
    const member = { ...(helloOf(B) as Hello), standing: { view } as never };
    expect(it_.hello(member)).toBe(member);
    it_.ready(B, readyIn(view));
    expect(admitted).toEqual([B]);
  });
});

describe("a worker of another make", () => {
  const differing = (version: string) => otherMake({ ...(helloOf(A) as Hello), version });
  const [version, code] = make().split("+");

  it("is refused with both sides shown", () => {
    expect(differing(make())).toBeNull();
    expect(differing(`9.9.9+${code}`)).toMatchObject({
      code: "LS_VERSION",
      message: expect.stringMatching(new RegExp(`9\\.9\\.9, the run ${version}`)),
    });
    expect(differing(`${version}+0badc0de`)).toMatchObject({
      code: "LS_CODE",
      message: expect.stringContaining(`0badc0de, the run's ${code}`),
    });
  });
});
