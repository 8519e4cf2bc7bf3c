import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ZebraError } from '@zebra/tensor';
import { caseRandom } from './draw.js';
import type { FuzzFiles, FuzzTarget } from './target.js';
import { configTarget, hybridConfigTarget } from './targets/configs.js';
import { modelFolderTarget } from './targets/model-folder.js';
import { safetensorsTarget } from './targets/safetensors.js';
import { shardsTarget } from './targets/shards.js';
import { templateTarget } from './targets/template.js';
import { tokenizerTarget } from './targets/tokenizer.js';

/** Every reader of untrusted files. */
export const TARGETS: readonly FuzzTarget[] = [
  safetensorsTarget,
  shardsTarget,
  configTarget,
  hybridConfigTarget,
  modelFolderTarget,
  tokenizerTarget,
  templateTarget,
];

/** Processor time that one case may take, in milliseconds; wall-clock time would count the machine's other work. */
const MOST_MILLISECONDS = 5000;
/** Memory that the process may have more than before the first case, in bytes. */
const MOST_MEMORY = 1e9;
/** Characters of an error's message: names and values from the file must not fill a screen. */
const MOST_MESSAGE = 20_000;

/** How a case ended. */
export interface CaseResult {
  readonly target: string;
  /** `valid`, or the code of our error; undefined for a defect. */
  readonly outcome: string | undefined;
  /** What is wrong, for a defect. */
  readonly defect?: string;
  readonly milliseconds: number;
}

/** Which target a case is for, and its input. */
export function caseInput(seed: number, index: number): { target: FuzzTarget; files: FuzzFiles } {
  const random = caseRandom(seed, index);
  let roll = random.integer(TARGETS.reduce((sum, { share }) => sum + share, 0));
  const target = TARGETS.find(({ share }) => {
    roll -= share;
    return roll < 0;
  })!;
  return { target, files: target.make(random) };
}

/** Runs cases in this process, each in an empty folder of its own. */
export class CaseRunner {
  private readonly folder = mkdtempSync(join(tmpdir(), 'zebra-fuzz-'));
  private readonly memory = process.memoryUsage.rss();

  async run(seed: number, index: number): Promise<CaseResult> {
    const { target, files } = caseInput(seed, index);
    const folder = join(this.folder, String(index));
    mkdirSync(folder);
    const started = process.cpuUsage();
    let result: Pick<CaseResult, 'outcome' | 'defect'>;
    try {
      await target.run(files, folder);
      result = { outcome: 'valid' };
    } catch (error) {
      result = judge(error);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    const { user, system } = process.cpuUsage(started);
    const milliseconds = (user + system) / 1000;
    if (milliseconds > MOST_MILLISECONDS)
      result = { outcome: undefined, defect: `it took ${milliseconds.toFixed(0)} ms` };
    const memory = process.memoryUsage.rss() - this.memory;
    if (memory > MOST_MEMORY)
      result = { outcome: undefined, defect: `the process grew by ${(memory / 1e6).toFixed(0)} MB` };
    return { target: target.name, ...result, milliseconds };
  }

  /** Removes what is left of the cases' folders. */
  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function judge(error: unknown): Pick<CaseResult, 'outcome' | 'defect'> {
  if (!ZebraError.is(error)) {
    const { name, message, stack } = error as Error;
    const at = stack?.split('\n').slice(1, 7).join('\n') ?? '';
    return { outcome: undefined, defect: `${name}: ${String(message).slice(0, 500)}\n${at}` };
  }
  if (error.message.length > MOST_MESSAGE) {
    return {
      outcome: undefined,
      defect: `a message of ${error.message.length} characters: ${error.message.slice(0, 200)}`,
    };
  }
  return { outcome: error.code };
}
