import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ZebraError } from '@zebra/tensor';
import { describe, expect, it } from 'vitest';
import { parseTransformerConfig } from './index.js';

const golden = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../test/goldens/${name}/config.json`, import.meta.url)), 'utf8');

const LLAMA = {
  model_type: 'llama',
  vocab_size: 128,
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 2,
  num_attention_heads: 4,
};

function problemOf(changes: Record<string, unknown>): string {
  try {
    parseTransformerConfig({ ...LLAMA, ...changes });
  } catch (error) {
    expect(ZebraError.is(error) && error.code).toBe('format');
    return (error as Error).message;
  }
  throw new Error('no error was thrown');
}

describe('parseTransformerConfig', () => {
  it('reads a llama with llama3 scaling', () => {
    expect(parseTransformerConfig(golden('llama-tiny'))).toEqual({
      modelType: 'llama',
      vocabularySize: 512,
      hiddenSize: 64,
      intermediateSize: 160,
      layerCount: 4,
      headCount: 4,
      keyValueHeadCount: 2,
      headDim: 16,
      normEpsilon: 1e-5,
      hiddenAct: 'silu',
      rope: {
        theta: 500000,
        scaling: {
          type: 'llama3',
          factor: 32,
          lowFreqFactor: 1,
          highFreqFactor: 4,
          originalMaxPositionEmbeddings: 8192,
        },
      },
      tieWordEmbeddings: true,
      maxPositionEmbeddings: 131072,
      attentionBias: false,
      mlpBias: false,
      queryKeyNorm: false,
      bosTokenIds: [1],
      eosTokenIds: [2],
    });
  });

  it('reads a qwen2 and a qwen3', () => {
    const qwen2 = parseTransformerConfig(golden('qwen2-tiny'));
    expect(qwen2).toMatchObject({ modelType: 'qwen2', attentionBias: true, queryKeyNorm: false, headDim: 16 });
    expect(qwen2.rope).toEqual({ theta: 1e6, scaling: null });
    const qwen3 = parseTransformerConfig(golden('qwen3-tiny'));
    expect(qwen3).toMatchObject({ modelType: 'qwen3', attentionBias: false, queryKeyNorm: true, headDim: 32 });
    expect(qwen3.tieWordEmbeddings).toBe(false);
  });

  it('gives missing keys the meaning they have in the transformers library', () => {
    const config = parseTransformerConfig(LLAMA);
    expect(config).toMatchObject({ keyValueHeadCount: 4, headDim: 16, normEpsilon: 1e-6, maxPositionEmbeddings: 2048 });
    expect(config.rope).toEqual({ theta: 10000, scaling: null });
    expect(config).toMatchObject({ tieWordEmbeddings: false, bosTokenIds: [], eosTokenIds: [] });
    expect(parseTransformerConfig({ ...LLAMA, model_type: 'qwen3' }).headDim).toBe(128);
    expect(parseTransformerConfig({ ...LLAMA, model_type: 'qwen3', head_dim: null }).headDim).toBe(16);
    expect(parseTransformerConfig({ ...LLAMA, eos_token_id: [3, 4] }).eosTokenIds).toEqual([3, 4]);
  });

  it('reads the new spelling of rotary positions', () => {
    const rope = (rope_parameters: unknown, rest = {}) =>
      parseTransformerConfig({ ...LLAMA, rope_parameters, ...rest }).rope;
    expect(rope({ rope_type: 'default', rope_theta: 1e6 })).toEqual({ theta: 1e6, scaling: null });
    expect(rope({ rope_type: 'linear', factor: 2, rope_theta: 1e4 })).toEqual({
      theta: 1e4,
      scaling: { type: 'linear', factor: 2 },
    });
    expect(rope({ full_attention: { rope_type: 'default', rope_theta: 5e5 } }).theta).toBe(5e5);
    const yarn = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32768, rope_theta: 1e6 };
    const scaling = {
      type: 'yarn',
      factor: 4,
      originalMaxPositionEmbeddings: 32768,
      betaFast: 32,
      betaSlow: 1,
    };
    expect(rope(yarn).scaling).toEqual(scaling);
    expect(rope(yarn, { rope_scaling: { type: 'yarn', ...yarn } }).scaling).toEqual(scaling);
    expect(rope({ rope_type: 'yarn', factor: 4 }).scaling).toMatchObject({ originalMaxPositionEmbeddings: 2048 });
  });

  it('says file, key, what was expected and what came, for all keys at once', () => {
    const message = problemOf({ hidden_size: -3, num_hidden_layers: '4', hidden_act: 'gelu' });
    expect(message).toContain('config.json:');
    expect(message).toContain('hidden_size: expected a positive integer, got -3');
    expect(message).toContain('num_hidden_layers: expected an integer from 1 to 4096, got "4"');
    expect(message).toContain('hidden_act: expected "silu", got "gelu"');
    expect(() => parseTransformerConfig({ ...LLAMA, vocab_size: 1.5 }, { file: 'a/config.json' })).toThrow(
      /^a\/config\.json: vocab_size: expected a positive integer, got 1\.5$/,
    );
  });

  it('names the model types it knows', () => {
    expect(problemOf({ model_type: 'gemma' })).toBe(
      'config.json: model_type: expected one of "llama", "mistral", "qwen2", "qwen3", got "gemma"',
    );
    expect(problemOf({ model_type: 'constructor' })).toContain('got "constructor"');
    expect(problemOf({ model_type: undefined })).toContain('got nothing');
  });

  it.each([
    ['num_key_value_heads', { num_key_value_heads: 3 }, /a divisor of num_attention_heads \(4\), got 3/],
    ['hidden_size', { hidden_size: 66 }, /a multiple of num_attention_heads \(4\)/],
    ['odd head', { head_dim: 15 }, /head_dim: expected an even number/],
    ['window', { use_sliding_window: true, sliding_window: 8 }, /sliding windows are not supported/],
    ['window of a llama', { sliding_window: 1024 }, /sliding_window: expected null/],
    [
      'layer types',
      { layer_types: ['full_attention', 'sliding_attention'] },
      /layer_types\.1: expected "full_attention"/,
    ],
    ['number of layer types', { layer_types: ['full_attention'] }, /layer_types: expected 2 entries/],
    ['biases', { attention_bias: true }, /attention_bias: expected false/],
    ['biases of a qwen2', { model_type: 'qwen2', attention_bias: false }, /a qwen2 has biases/],
    ['MLP biases', { mlp_bias: true }, /mlp_bias: expected false/],
    ['quantisation', { quantization_config: { bits: 4 } }, /quantised checkpoints/],
    ['special ids', { eos_token_id: 128 }, /eos_token_id: expected ids below vocab_size \(128\)/],
    [
      'rope type',
      { rope_scaling: { type: 'dynamic', factor: 2 } },
      /rope_scaling\.rope_type: expected "default", .*"dynamic"/,
    ],
    [
      'rope factor',
      { rope_scaling: { type: 'linear', factor: 0.5 } },
      /rope_scaling\.factor: expected a number of at least 1/,
    ],
    ['rope without type', { rope_scaling: { factor: 2 } }, /rope_scaling\.rope_type: expected .* got nothing/],
    ['llama3 without factors', { rope_scaling: { rope_type: 'llama3', factor: 8 } }, /low_freq_factor/],
    [
      'attention factor',
      { rope_scaling: { type: 'yarn', factor: 4, attention_factor: 2 } },
      /attention_factor: expected null/,
    ],
    ['two thetas', { rope_theta: 1e4, rope_parameters: { rope_theta: 1e6 } }, /rope_theta: expected 1000000/],
    [
      'two scalings',
      { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'linear', factor: 4 } },
      /what rope_parameters says/,
    ],
    ['partial rotation', { partial_rotary_factor: 0.5 }, /partial_rotary_factor: expected 1/],
    ['heads without end', { head_dim: 2 ** 31 }, /head_dim: expected at most 65536/],
    [
      'heads without end by division',
      { hidden_size: 2 ** 40, num_attention_heads: 1 },
      /head_dim: expected at most 65536/,
    ],
    ['layers without end', { num_hidden_layers: 1e9 }, /an integer from 1 to 4096/],
  ])('refuses a contradiction or what is not supported: %s', (_, changes, message) => {
    expect(problemOf(changes)).toMatch(message);
  });

  it('allows a window that is switched off', () => {
    const off = { model_type: 'qwen2', sliding_window: 4096, use_sliding_window: false };
    expect(parseTransformerConfig({ ...LLAMA, ...off }).modelType).toBe('qwen2');
  });

  it('names what is nested too deep for the stack, and lists some of many problems', () => {
    const deep = JSON.parse(`${'['.repeat(20_000)}${']'.repeat(20_000)}`) as unknown;
    expect(problemOf({ hidden_size: deep })).toMatch(/hidden_size: expected a positive integer, got a list/);
    const message = problemOf({ layer_types: new Array(500).fill('sliding_attention') });
    expect(message).toMatch(/layer_types\.19: .*\n {2}and 480 more$/);
  });

  it('reads a mistral whose window no sequence leaves', () => {
    const mistral = { ...LLAMA, model_type: 'mistral', num_attention_heads: 8 };
    const config = parseTransformerConfig({ ...mistral, sliding_window: null });
    expect(config).toMatchObject({ modelType: 'mistral', keyValueHeadCount: 8, headDim: 8, attentionBias: false });
    expect(config).toMatchObject({ maxPositionEmbeddings: 131072, queryKeyNorm: false, normEpsilon: 1e-6 });
    const short = { max_position_embeddings: 4096, num_key_value_heads: 2 };
    // Without the key the window is 4096, as in the library's class.
    expect(parseTransformerConfig({ ...mistral, ...short }).keyValueHeadCount).toBe(2);
    expect(
      parseTransformerConfig({ ...mistral, num_key_value_heads: null, sliding_window: null }).keyValueHeadCount,
    ).toBe(8);
    for (const changes of [{}, { sliding_window: 4096 }, { ...short, sliding_window: 4095 }]) {
      expect(() => parseTransformerConfig({ ...mistral, ...changes })).toThrow(
        /sliding_window: expected null, or at least max_position_embeddings \((131072|4096)\)/,
      );
    }
  });

  it('refuses what is no JSON object', () => {
    expect(() => parseTransformerConfig('{')).toThrow(/config\.json: this is not JSON/);
    expect(() => parseTransformerConfig([1])).toThrow(/expected a JSON object, got \[1\]/);
    expect(() => parseTransformerConfig(null)).toThrow(/got null/);
  });
});
