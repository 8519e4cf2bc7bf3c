import { defineConfig } from 'vitest/config';

// `@zebra/source` makes workspace packages resolve to their TypeScript sources, with no build before the tests.
const conditions = ['@zebra/source', 'module', 'node', 'development|production'];

const TESTS = ['packages/*/{src,test}/**/*.test.ts', 'examples/*/**/*.test.ts'];
const EMULATED = 'packages/*/{src,test}/**/*.emulated.test.ts';

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ['@zebra/source', 'node', 'module-sync'] } },
  test: {
    // `*.emulated.test.ts` run kernels for matrix units, emulated: much code that runs little, which lavapipe compiles
    // several times as fast without LLVM's optimizations. It looks at that once a process, so they get one of their own.
    projects: [
      { extends: true, test: { name: 'main', include: TESTS, exclude: [EMULATED, '**/node_modules/**'] } },
      { extends: true, test: { name: 'emulated', include: [EMULATED], env: { GALLIVM_PERF: 'nopt' } } },
    ],
    // One process and one GPU device for all files: opening a device and compiling its pipelines is what costs time on
    // a software adapter. Never worker threads: Dawn's native module must not be loaded in one.
    pool: 'forks',
    maxWorkers: 1,
    isolate: false,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
