import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { usage } from "../../shared/config/options.ts";
import { LockstepError } from "../../shared/errors.ts";
import { CoordinatorClient, channelOptions, grpc } from "../../shared/rpc/service.ts";
import { runDirectory } from "../up/prepare.ts";

const FAULTS = ["crash", "freeze", "flip-weights", "flip-slots", "slow"];

/** Adds `lockstep inject RUN FAULT`: the same faults that the tests use, on a cluster of one's own. */
export function registerInject(program: Command): void {
  program
    .command("inject")
    .description("do to a worker of a running cluster what a bad day would do")
    .argument("<run>", "the run's directory, or its id below runs/")
    .argument("<fault>", FAULTS.join(", "))
    .addOption(new Option("--worker <name>", "which worker, by the name that `status` shows").makeOptionMandatory())
    .option("--millis <n>", "slow: how much longer each of its shards takes; 0 ends it", "200")
    .action(async (run: string, fault: string, { worker, millis }: { worker: string; millis: string }) => {
      if (!FAULTS.includes(fault)) {
        throw new LockstepError("LS_USAGE", `There is no fault "${fault}".`, {
          hint: `Choose one of ${FAULTS.join(", ")}.`,
          exitCode: 2,
        });
      }
      if (!/^\d{1,5}$/.test(millis)) {
        throw usage(
          `--millis must be a whole number of at most 99999; it is ${JSON.stringify(millis)}.`,
          "See `npx lockstep inject --help`.",
        );
      }
      const detail = fault === "slow" ? `slow:${Number(millis)}` : fault;
      process.stdout.write(`${await control(run, { action: "inject", target: worker, detail })}\n`);
    });
}

type Unary = {
  control(request: object, options: grpc.CallOptions, callback: grpc.requestCallback<{ message: string }>): void;
};

async function control(run: string, request: object): Promise<string> {
  const file = join(runDirectory(run), "endpoints.json");
  const { coordinator } = JSON.parse(readFileSync(file, "utf8")) as { coordinator: string };
  const client = new CoordinatorClient(coordinator, grpc.credentials.createInsecure(), channelOptions());
  try {
    return await new Promise((resolve, reject) => {
      (client as unknown as Unary).control(request, { deadline: Date.now() + 5000 }, (error, reply) => {
        if (error === null) return resolve(reply?.message ?? "");
        reject(
          new LockstepError("LS_NO_ANSWER", `The coordinator at ${coordinator} says: ${error.details}.`, {
            hint: "See `npx lockstep status`.",
          }),
        );
      });
    });
  } finally {
    client.close();
  }
}
