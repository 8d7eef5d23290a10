import { spawnSync } from "node:child_process";

/** Does a Docker engine answer here? */
export const docker = spawnSync("docker", ["info"], { stdio: "ignore", timeout: 10_000 }).status === 0;
/** For the names of tests. */
export const whyNoDocker = docker ? "" : " (skipped: no Docker engine answers)";
