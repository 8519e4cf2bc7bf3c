import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** As much of node-llama-cpp as is used here; it is not a dependency. */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{
    readonly gpu: string | false;
    loadModel(options: object): Promise<{
      createContext(options: object): Promise<{
        getSequence(): Sequence;
        dispose(): Promise<void>;
      }>;
      dispose(): Promise<void>;
    }>;
  }>;
}

interface Sequence {
  clearHistory(): Promise<void>;
  controlledEvaluate(
    tokens: readonly (readonly [number, object])[],
  ): Promise<readonly ({ readonly next?: { readonly probabilities?: ReadonlyMap<number, number> } } | undefined)[]>;
  dispose(): void;
}

/** How llama.cpp is told to compute. */
export interface EngineSettings {
  readonly name: string;
  /** Type of the cached keys and values. */
  readonly cache: 'F32' | 'F16';
  readonly flashAttention: boolean;
}

export const SETTINGS: readonly EngineSettings[] = [
  { name: 'float32 cache', cache: 'F32', flashAttention: false },
  { name: 'float32 cache, flash attention', cache: 'F32', flashAttention: true },
  { name: "float16 cache (llama.cpp's default)", cache: 'F16', flashAttention: false },
];

/** llama.cpp on the CPU, loaded from where the user installed it. */
export class LlamaCpp {
  readonly version: string;
  private readonly module: NodeLlamaCpp;

  private constructor(module: NodeLlamaCpp, version: string) {
    this.module = module;
    this.version = version;
  }

  /** @param folder whose `node_modules`, or that of a folder above, holds node-llama-cpp */
  static async open(folder: string): Promise<LlamaCpp> {
    const require = createRequire(join(resolve(folder), 'index.js'));
    let entry: string;
    try {
      entry = require.resolve('node-llama-cpp');
    } catch {
      throw new Error(
        'llama.cpp is not installed, as only this check needs it. Do:\n  npm install --no-save node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1\nin the repository, or in another folder that you give with --engine.',
      );
    }
    const [before] = entry.split('/dist/');
    const { version } = require(`${before}/package.json`) as { version: string };
    return new LlamaCpp((await import(pathToFileURL(entry).href)) as NodeLlamaCpp, version);
  }

  /**
   * Log-probabilities of the next token after each token of each document, in nats: [tokens, vocabulary] a document.
   *
   * @param file a GGUF file
   */
  async logProbabilities(
    file: string,
    documents: readonly (readonly number[])[],
    vocabulary: number,
    settings: EngineSettings,
  ): Promise<Float64Array[]> {
    // Nothing is downloaded or built: the package for this platform brings the library.
    const llama = await this.module.getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });
    if (llama.gpu !== false) throw new Error(`llama.cpp was meant to run on the CPU, it has ${llama.gpu}`);
    const model = await llama.loadModel({ modelPath: file });
    const context = await model.createContext({
      contextSize: Math.max(...documents.map((ids) => ids.length)) + 8,
      flashAttention: settings.flashAttention,
      experimentalKvCacheKeyType: settings.cache,
      experimentalKvCacheValueType: settings.cache,
    });
    const sequence = context.getSequence();
    const result: Float64Array[] = [];
    for (const ids of documents) {
      await sequence.clearHistory();
      const outputs = await sequence.controlledEvaluate(
        ids.map((id) => [id, { generateNext: { probabilities: true } }]),
      );
      const values = new Float64Array(ids.length * vocabulary).fill(Number.NEGATIVE_INFINITY);
      outputs.forEach((output, position) => {
        for (const [token, p] of output?.next?.probabilities ?? []) values[position * vocabulary + token] = Math.log(p);
      });
      result.push(values);
    }
    sequence.dispose();
    await context.dispose();
    await model.dispose();
    return result;
  }
}
