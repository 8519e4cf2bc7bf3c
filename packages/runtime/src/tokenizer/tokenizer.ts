import { Tokenizer as Library } from '@huggingface/tokenizers';
import { ZebraError } from '@zebra/tensor';
import { showValue } from '../config/problems.js';
import { type ChatMessage, ChatTemplate, type RenderChatOptions } from './chat-template.js';
import { readTokenizerFiles, type TokenizerFiles, type TokenizerParts } from './tokenizer-files.js';

// The declarations of the package leave out the file extensions that TypeScript's Node resolution wants, so that its
// classes come without types.
interface LibraryTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[]; tokens: string[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

/** Options of {@link Tokenizer.encode}. */
export interface EncodeOptions {
  /** Put in the special tokens that the tokenizer's own template says, as a rule a BOS in front. Default true. */
  readonly addSpecialTokens?: boolean;
}

/** Options of {@link Tokenizer.decode}. */
export interface DecodeOptions {
  /** Leave special tokens out. Default false. */
  readonly skipSpecialTokens?: boolean;
}

/** Options of {@link Tokenizer.applyChatTemplate}. */
export interface ChatTemplateOptions extends RenderChatOptions {
  /** Which template, where a model has several. Default: `tool_use` if there are tools and it exists, else `default`. */
  readonly template?: string;
}

/** Text to ids and back, and conversations to text. Get one with `loadTokenizer()` or `createTokenizer()`. */
export class Tokenizer {
  /** One more than the highest id. A model may have more rows than that. */
  readonly vocabularySize: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly padTokenId: number | undefined;
  readonly unknownTokenId: number | undefined;
  /** Ids of all tokens that `skipSpecialTokens` leaves out. */
  readonly specialTokenIds: ReadonlySet<number>;
  private readonly library: LibraryTokenizer;
  private readonly parts: TokenizerParts;
  private readonly templates = new Map<string, ChatTemplate>();

  /** @internal */
  constructor(parts: TokenizerParts) {
    this.parts = parts;
    try {
      this.library = new Library(parts.tokenizer, parts.config) as LibraryTokenizer;
    } catch (cause) {
      throw new ZebraError(
        'format',
        `${parts.origin}: not a tokenizer that can be read: ${(cause as Error).message.slice(0, 300)}`,
        {
          cause,
        },
      );
    }
    this.vocabularySize = parts.vocabularySize;
    this.specialTokenIds = parts.specialTokenIds;
    const idOf = (name: string) => {
      const token = parts.specialTokens[name];
      return token === undefined ? undefined : this.library.token_to_id(token);
    };
    this.bosTokenId = idOf('bos_token');
    this.eosTokenId = idOf('eos_token');
    this.padTokenId = idOf('pad_token');
    this.unknownTokenId = idOf('unk_token');
  }

  /**
   * The ids of a text. Text that spells a special token becomes that token, as in the transformers library: take it
   * out of what strangers wrote before you put it in a prompt. Half of a surrogate pair, which is no text, counts as
   * U+FFFD.
   *
   * @throws ZebraError `argument` when it is no text, `data` when a part of it has no token, `format` when a part of
   *   the tokenizer's file turns out to be unusable
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw new ZebraError('argument', `encode: expected a string, got ${typeof text}`);
    // As any conversion to UTF-8 does; the library leaves it to the tokenizer's kind.
    const { ids, tokens } = this.guarded('encode', () =>
      this.library.encode(text.replace(/\p{Surrogate}/gu, '\uFFFD'), {
        add_special_tokens: options.addSpecialTokens ?? true,
      }),
    );
    const missing = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < this.vocabularySize));
    if (missing >= 0) {
      throw new ZebraError('data', `encode: this tokenizer has no token for ${showValue(tokens[missing])}`);
    }
    return ids;
  }

  /**
   * The text of some ids, as the tokens spell it (blanks before punctuation are not cleaned up, so that the text of a
   * stream does not change afterwards). Ids that no token has, as the padding rows of a model's embedding, give nothing.
   *
   * @throws ZebraError `argument` when an id is no non-negative integer, `format` when a part of the tokenizer's file
   *   turns out to be unusable
   */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const kept: number[] = [];
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 0) {
        throw new ZebraError('argument', `decode: expected non-negative integers, got ${String(id)}`);
      }
      if (options.skipSpecialTokens && this.specialTokenIds.has(id)) continue;
      if (this.library.id_to_token(id) !== undefined) kept.push(id);
    }
    if (kept.length === 0) return '';
    const text = this.guarded('decode', () => this.library.decode(kept, { clean_up_tokenization_spaces: false }));
    if (typeof text !== 'string') throw this.unusable('decode', 'it gives no text');
    return text;
  }

  /** Parts of the file that the library trusts until they are used, such as the decoder's, may fail late. */
  private guarded<T>(operation: string, run: () => T): T {
    try {
      return run();
    } catch (cause) {
      throw this.unusable(operation, (cause as Error).message, cause);
    }
  }

  private unusable(operation: string, what: string, cause?: unknown): ZebraError {
    return new ZebraError(
      'format',
      `${operation}: ${this.parts.origin} is not a tokenizer that can be used: ${what.slice(0, 300)}`,
      { cause },
    );
  }

  /** The id of a token, or undefined where there is none. */
  tokenToId(token: string): number | undefined {
    return this.library.token_to_id(token);
  }

  /** The token of an id as the vocabulary spells it, or undefined. */
  idToToken(id: number): string | undefined {
    return this.library.id_to_token(id);
  }

  /** Names of the chat templates that the files hold. */
  get chatTemplates(): readonly string[] {
    return Object.keys(this.parts.templates);
  }

  /**
   * A conversation as text, through the model's Jinja template, which is run within a budget of steps, time and size.
   * Encode the text with `addSpecialTokens: false`, as templates write the special tokens themselves.
   *
   * @throws ZebraError `argument` without a template of that name, or when it refuses the messages; `data` when it
   *   spends more than its budget; `format` when it fails
   */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const { templates, specialTokens, origin } = this.parts;
    const fallback = options.tools && Object.hasOwn(templates, 'tool_use') ? 'tool_use' : 'default';
    const name = options.template ?? fallback;
    const source = Object.hasOwn(templates, name) ? templates[name] : undefined;
    if (source === undefined) {
      const known = this.chatTemplates.join(', ') || 'none';
      throw new ZebraError(
        'argument',
        `applyChatTemplate: ${origin} has no chat template "${name}" (it has: ${known})`,
      );
    }
    let template = this.templates.get(name);
    if (!template) {
      template = new ChatTemplate(source, specialTokens);
      this.templates.set(name, template);
    }
    return template.render(messages, options);
  }

  /** The ids of a conversation: {@link applyChatTemplate} and {@link encode} in one. */
  encodeChat(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): number[] {
    return this.encode(this.applyChatTemplate(messages, options), { addSpecialTokens: false });
  }
}

/**
 * A tokenizer from the contents of its files, for browsers and downloads.
 *
 * @throws ZebraError `format` for contents that are no tokenizer
 */
export function createTokenizer(files: TokenizerFiles): Tokenizer {
  return new Tokenizer(readTokenizerFiles(files, 'tokenizer.json'));
}
