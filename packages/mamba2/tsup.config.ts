import { defineConfig } from 'tsup';

export default defineConfig({
  entry: { index: 'src/index.ts' },
  format: 'esm',
  // Below ES2026, so that `using` becomes plain try/finally for Node 20.
  target: ['node20', 'es2022'],
  sourcemap: true,
  clean: true,
  // Declarations come from tsc (tsconfig.build.json).
  dts: false,
  removeNodeProtocol: false,
});
