/** Draw the same numbers from a seed as numpy's default generator. */

const MASK32 = 0xffffffffn;
const MASK64 = (1n << 64n) - 1n;
const MASK128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** PCG64 (O'Neill 2014: PCG XSL RR 128/64), seeded as in numpy, so that Python draws the same tokens. */
export class Random {
  private state = 0n;
  private readonly increment: bigint;

  /** Null takes a seed from the system. */
  constructor(seed: number | bigint | null) {
    const words = seed === null ? [...crypto.getRandomValues(new Uint32Array(4))] : wordsOf(BigInt(seed));
    const [high = 0n, low = 0n, streamHigh = 0n, streamLow = 0n] = seedSequence(words, 4);
    this.increment = ((((streamHigh << 64n) | streamLow) << 1n) | 1n) & MASK128;
    this.step();
    this.state = (this.state + ((high << 64n) | low)) & MASK128;
    this.step();
  }

  /** Draw a number from 0 up to, but not including, 1, in steps of 2^-53. */
  next(): number {
    this.step();
    const folded = ((this.state >> 64n) ^ this.state) & MASK64;
    const turn = this.state >> 122n;
    const word = ((folded >> turn) | (folded << ((64n - turn) & 63n))) & MASK64;
    return Number(word >> 11n) * 2 ** -53;
  }

  private step(): void {
    this.state = (this.state * MULTIPLIER + this.increment) & MASK128;
  }
}

/** Split a seed into 32-bit words, lowest first. */
function wordsOf(seed: bigint): number[] {
  const words: number[] = [];
  do {
    words.push(Number(seed & MASK32));
    seed >>= 32n;
  } while (seed);
  return words;
}

/** Generate `count` 64-bit words with numpy's SeedSequence (after O'Neill's seed_seq_fe128), from 4 words at most. */
function seedSequence(entropy: readonly number[], count: number): bigint[] {
  const pool = mixed(entropy);
  let constant = 0x8b51f9dd;
  const out: bigint[] = [];
  for (let i = 0; i < 2 * count; i++) {
    let value = (pool[i % 4] as number) ^ constant;
    constant = Math.imul(constant, 0x58f38ded);
    value = Math.imul(value, constant);
    out.push(BigInt((value ^ (value >>> 16)) >>> 0));
  }
  return Array.from({ length: count }, (_, i) => (out[2 * i] as bigint) | ((out[2 * i + 1] as bigint) << 32n));
}

/** Mix the entropy into a pool of 4 words, so that every word affects every other. */
function mixed(entropy: readonly number[]): number[] {
  let constant = 0x43b0d7e5;
  const hashed = (value: number): number => {
    value ^= constant;
    constant = Math.imul(constant, 0x931e8875);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const pool = Array.from({ length: 4 }, (_, i) => hashed(entropy[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) {
      if (from === to) continue;
      const value = Math.imul(pool[to] as number, 0xca01f9dd) - Math.imul(hashed(pool[from] as number), 0x4973f715);
      pool[to] = value ^ (value >>> 16);
    }
  }
  return pool;
}
