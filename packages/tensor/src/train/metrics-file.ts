import { ZebraError } from '../errors.js';
import { nodeFs, nodePath } from '../node-modules.js';

/** An open metrics file. */
export interface MetricsFile extends AsyncDisposable {
  /** Appends one line; when it returns, the line is with the operating system and outlives a kill of the process. */
  write(metrics: { readonly step: number }): Promise<void>;
  /** Closes the file. Closing again does nothing. */
  close(): Promise<void>;
}

/**
 * Opens a JSONL file for the metrics of one run, one line a step; its folder is made where it is missing. Node only.
 *
 * The first line written decides what stays of a file that is there already: lines of that step and later are dropped,
 * and so is a last line that a kill left unfinished. So a resumed run goes on where its checkpoint stands, and a new
 * run starts the file anew. Numbers that are not finite become null.
 *
 * @throws ZebraError `io`
 */
export async function appendMetrics(path: string): Promise<MetricsFile> {
  const { mkdir, open } = await nodeFs();
  const { dirname } = await nodePath();
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    await mkdir(dirname(path), { recursive: true });
    handle = await open(path, 'a+');
  } catch (cause) {
    throw new ZebraError('io', `appendMetrics: ${path} can't be opened: ${String(cause)}`, { cause });
  }
  let begun = false;
  const close = async () => {
    await handle?.close();
    handle = undefined;
  };
  return {
    async write(metrics) {
      if (!handle) throw new ZebraError('io', `appendMetrics: ${path} is closed`);
      try {
        if (!begun) await handle.truncate(keptBytes(await handle.readFile(), metrics.step));
        begun = true;
        await handle.appendFile(`${JSON.stringify(metrics)}\n`);
      } catch (cause) {
        throw new ZebraError('io', `appendMetrics: writing to ${path} failed: ${String(cause)}`, { cause });
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Bytes of the leading lines that are whole and of earlier steps. */
function keptBytes(content: Uint8Array, step: number): number {
  const decoder = new TextDecoder();
  let kept = 0;
  for (;;) {
    const end = content.indexOf(0x0a, kept);
    if (end < 0) return kept;
    try {
      const line = JSON.parse(decoder.decode(content.subarray(kept, end))) as { step?: number } | null;
      if (!(Number(line?.step) < step)) return kept;
    } catch {
      return kept;
    }
    kept = end + 1;
  }
}
