import { defineConfig } from 'vitest/config';

// `@zebra/source` makes workspace packages resolve to their TypeScript sources, with no build before the tests.
const conditions = ['@zebra/source', 'module', 'node', 'development|production'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: ['@zebra/source', 'node', 'module-sync'] } },
  test: {
    include: ['packages/*/{src,test}/**/*.test.ts', 'examples/*/**/*.test.ts'],
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
