import { canonical, canonicalOne } from "./number";

// One step of an optimizer, in place. Each line below is one float32 operation per element, in this order; arithmetic.ts
// documents the formulas. Padding between tensors is zero in weights, slots and gradients and stays zero.

// @ts-ignore: decorator
@inline function sgd4(w: usize, m: usize, g: usize, rate: v128, mu: v128, nesterov: bool, decay: v128, decays: bool, inverse: v128): void {
  const weight = v128.load(w);
  let gradient = f32x4.mul(v128.load(g), inverse);
  if (decays) gradient = f32x4.add(gradient, f32x4.mul(decay, weight));
  const moment = canonical(f32x4.add(f32x4.mul(mu, v128.load(m)), gradient));
  v128.store(m, moment);
  const step = nesterov ? f32x4.add(gradient, f32x4.mul(mu, moment)) : moment;
  v128.store(w, canonical(f32x4.sub(weight, f32x4.mul(rate, step))));
}

export function sgd(w: usize, m: usize, g: usize, n: i32, rate: f32, mu: f32, nesterov: bool, decay: f32, inverse: f32): void {
  const rates = f32x4.splat(rate);
  const mus = f32x4.splat(mu);
  const decaysBy = f32x4.splat(decay);
  const inverses = f32x4.splat(inverse);
  const decays = decay != 0;
  let i = 0;
  for (; i + 16 <= n; i += 16, w += 64, m += 64, g += 64) {
    sgd4(w, m, g, rates, mus, nesterov, decaysBy, decays, inverses);
    sgd4(w + 16, m + 16, g + 16, rates, mus, nesterov, decaysBy, decays, inverses);
    sgd4(w + 32, m + 32, g + 32, rates, mus, nesterov, decaysBy, decays, inverses);
    sgd4(w + 48, m + 48, g + 48, rates, mus, nesterov, decaysBy, decays, inverses);
  }
  for (; i < n; i++, w += 4, m += 4, g += 4) {
    const weight = load<f32>(w);
    let gradient = load<f32>(g) * inverse;
    if (decays) gradient = gradient + decay * weight;
    const moment = canonicalOne(mu * load<f32>(m) + gradient);
    store<f32>(m, moment);
    const step = nesterov ? gradient + mu * moment : moment;
    store<f32>(w, canonicalOne(weight - rate * step));
  }
}

// @ts-ignore: decorator
@inline function adamw4(w: usize, m: usize, v: usize, g: usize, keep: v128, beta2: v128, new1: v128, new2: v128, stepSize: v128, root: v128, epsilon: v128, inverse: v128): void {
  const gradient = f32x4.mul(v128.load(g), inverse);
  const weight = f32x4.mul(v128.load(w), keep);
  const first = v128.load(m);
  const moment = canonical(f32x4.add(first, f32x4.mul(new1, f32x4.sub(gradient, first))));
  v128.store(m, moment);
  const square = f32x4.mul(new2, f32x4.mul(gradient, gradient));
  const second = canonical(f32x4.add(f32x4.mul(beta2, v128.load(v)), square));
  v128.store(v, second);
  const divisor = f32x4.add(f32x4.div(f32x4.sqrt(second), root), epsilon);
  v128.store(w, canonical(f32x4.sub(weight, f32x4.mul(stepSize, f32x4.div(moment, divisor)))));
}

export function adamw(w: usize, m: usize, v: usize, g: usize, n: i32, keep: f32, beta2: f32, new1: f32, new2: f32, stepSize: f32, root: f32, epsilon: f32, inverse: f32): void {
  const keeps = f32x4.splat(keep);
  const beta2s = f32x4.splat(beta2);
  const new1s = f32x4.splat(new1);
  const new2s = f32x4.splat(new2);
  const stepSizes = f32x4.splat(stepSize);
  const roots = f32x4.splat(root);
  const epsilons = f32x4.splat(epsilon);
  const inverses = f32x4.splat(inverse);
  let i = 0;
  for (; i + 8 <= n; i += 8, w += 32, m += 32, v += 32, g += 32) {
    adamw4(w, m, v, g, keeps, beta2s, new1s, new2s, stepSizes, roots, epsilons, inverses);
    adamw4(w + 16, m + 16, v + 16, g + 16, keeps, beta2s, new1s, new2s, stepSizes, roots, epsilons, inverses);
  }
  for (; i < n; i++, w += 4, m += 4, v += 4, g += 4) {
    const gradient = load<f32>(g) * inverse;
    const weight = load<f32>(w) * keep;
    const first = load<f32>(m);
    const moment = canonicalOne(first + new1 * (gradient - first));
    store<f32>(m, moment);
    const square = new2 * (gradient * gradient);
    const second = canonicalOne(beta2 * load<f32>(v) + square);
    store<f32>(v, second);
    const divisor = sqrt<f32>(second) / root + epsilon;
    store<f32>(w, canonicalOne(weight - stepSize * (moment / divisor)));
  }
}

export function ema(e: usize, w: usize, n: i32, fresh: f32): void {
  const share = f32x4.splat(fresh);
  let i = 0;
  for (; i + 4 <= n; i += 4, e += 16, w += 16) {
    const mean = v128.load(e);
    v128.store(e, canonical(f32x4.add(mean, f32x4.mul(share, f32x4.sub(v128.load(w), mean)))));
  }
  for (; i < n; i++, e += 4, w += 4) {
    const mean = load<f32>(e);
    store<f32>(e, canonicalOne(mean + fresh * (load<f32>(w) - mean)));
  }
}

export function movingStatistics(s: usize, g: usize, n: i32, momentum: f32, fresh: f32, inverse: f32): void {
  const momenta = f32x4.splat(momentum);
  const share = f32x4.splat(fresh);
  const inverses = f32x4.splat(inverse);
  let i = 0;
  for (; i + 4 <= n; i += 4, s += 16, g += 16) {
    const batch = f32x4.mul(share, f32x4.mul(v128.load(g), inverses));
    v128.store(s, canonical(f32x4.add(f32x4.mul(momenta, v128.load(s)), batch)));
  }
  for (; i < n; i++, s += 4, g += 4) {
    const batch = fresh * (load<f32>(g) * inverse);
    store<f32>(s, canonicalOne(momentum * load<f32>(s) + batch));
  }
}
