import ts from 'typescript';

/** What a module exports, sorted by name. */
export interface ExportedNames {
  /** What an import at run time gives: functions, classes, constants. */
  readonly values: readonly string[];
  /** What only the compiler knows. */
  readonly types: readonly string[];
}

/**
 * The exports of TypeScript modules or declaration files, re-exports resolved.
 *
 * @param conditions of package exports, beside the usual ones
 * @throws Error for a file that is no module
 */
export function exportedNames(files: readonly string[], conditions: readonly string[]): ExportedNames[] {
  const program = ts.createProgram(files, {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    customConditions: [...conditions],
    types: [],
    noLib: true,
    noEmit: true,
  });
  const checker = program.getTypeChecker();
  return files.map((file) => {
    const source = program.getSourceFile(file);
    const module = source && checker.getSymbolAtLocation(source);
    if (!module) throw new Error(`${file} is no module`);
    const values: string[] = [];
    const types: string[] = [];
    for (const symbol of checker.getExportsOfModule(module))
      (isValue(checker, symbol) ? values : types).push(symbol.name);
    return { values: values.sort(), types: types.sort() };
  });
}

function isValue(checker: ts.TypeChecker, symbol: ts.Symbol): boolean {
  // `export type { A }` hides the value that A may have.
  const typeOnly = symbol.declarations?.some(
    (node) => ts.isExportSpecifier(node) && ts.isTypeOnlyExportDeclaration(node),
  );
  if (typeOnly) return false;
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  return (target.flags & ts.SymbolFlags.Value) !== 0;
}
