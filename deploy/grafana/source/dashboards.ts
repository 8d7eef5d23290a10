import { COMPARE } from "./boards/compare.ts";
import { EXCHANGE } from "./boards/exchange.ts";
import { GPUS } from "./boards/gpus.ts";
import { OVERVIEW } from "./boards/overview.ts";
import { WORKERS } from "./boards/workers.ts";
import type { DashboardSpec } from "./dashboard.ts";

export const DASHBOARDS: readonly DashboardSpec[] = [OVERVIEW, WORKERS, EXCHANGE, GPUS, COMPARE];
