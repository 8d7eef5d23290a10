import { type Binding, backendOf, type NativeBackend } from "../compute/backend.ts";
import type { TensorFlow } from "../compute/tensorflow.ts";

/** What one metered stretch cost on the way into TensorFlow. */
export interface Metered {
  /** Calls into the add-on of any kind. */
  readonly calls: number;
  /** Operations that were asked for one by one; graphs run by one call count in `calls` alone. */
  readonly operations: number;
  /** Milliseconds outside of the add-on: JavaScript. */
  readonly javascript: number;
}

type Call = (...args: unknown[]) => unknown;

/** Stands between TensorFlow.js and its add-on, counts and times the calls. */
export class BindingMeter {
  private readonly backend: NativeBackend;
  private readonly plain: Binding;
  private calls = 0;
  private operations = 0;
  private inside = 0;
  /** Called after each run of a graph, with the arguments of that run. */
  onGraph: (...args: Parameters<Binding["runSavedModel"]>) => void = () => {};

  constructor(tf: TensorFlow) {
    this.backend = backendOf(tf);
    this.plain = this.backend.binding;
  }

  measure(run: () => void): Metered {
    const wrapped = new Map<string | symbol, unknown>();
    const target = this.plain;
    // The add-on's own properties cannot be hidden by a proxy of itself.
    const binding = new Proxy(
      {},
      {
        get: (_, key) => {
          let found = wrapped.get(key);
          if (found === undefined) {
            const value: unknown = Reflect.get(target, key);
            found = typeof value === "function" ? this.timed(String(key), value.bind(target) as Call) : value;
            wrapped.set(key, found);
          }
          return found;
        },
      },
    );
    [this.calls, this.operations, this.inside] = [0, 0, 0];
    Object.assign(this.backend, { binding });
    const started = performance.now();
    try {
      run();
    } finally {
      Object.assign(this.backend, { binding: this.plain });
    }
    const javascript = performance.now() - started - this.inside;
    return { calls: this.calls, operations: this.operations, javascript };
  }

  private timed(name: string, call: Call): Call {
    return (...args) => {
      this.calls++;
      if (name === "executeOp") this.operations++;
      const started = performance.now();
      try {
        const result = call(...args);
        if (name === "runSavedModel") this.onGraph(...(args as Parameters<Binding["runSavedModel"]>));
        return result;
      } finally {
        this.inside += performance.now() - started;
      }
    };
  }
}
