import { spawn } from 'node:child_process';

/** How a command ended. */
export interface CommandResult {
  readonly code: number | null;
  /** stdout and stderr as they came. */
  readonly output: string;
  readonly stdout: string;
}

/** Runs a command in a folder to its end, without what npm and the test runner put into the environment. */
export function runCommand(
  file: string,
  args: readonly string[],
  { cwd, env = {} }: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<CommandResult> {
  const inherited = Object.entries(process.env).filter(
    ([name]) =>
      !/^(npm_(package|lifecycle|command)|npm_config_(local_prefix|workspace)|INIT_CWD|VITEST|NODE_ENV|NODE_OPTIONS)/.test(
        name,
      ),
  );
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd, env: { ...Object.fromEntries(inherited), ...env } });
    let output = '';
    let stdout = '';
    child.stdout.on('data', (text) => {
      output += text;
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output, stdout }));
  });
}

/** Runs a command that must succeed, and gives what it wrote to stdout. */
export async function mustRun(...command: Parameters<typeof runCommand>): Promise<string> {
  const { code, output, stdout } = await runCommand(...command);
  if (code !== 0) throw new Error(`${command[0]} ${command[1].join(' ')} exited with ${code}:\n${output}`);
  return stdout;
}
