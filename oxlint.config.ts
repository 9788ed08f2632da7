import { type OxlintConfig, defineConfig } from "oxlint";
import { homes, moduleOf, modules, pureBuiltins, shareFolder } from "./test/layers.ts";

type Override = NonNullable<OxlintConfig["overrides"]>[number];
interface Pattern {
  readonly group: string[];
  readonly message: string;
}

/** The rule of a module, as `no-restricted-imports` patterns; `test/architecture.test.ts` holds the same table in its own way. */
function layerRule(files: string, name: string, inHome: (place: string) => boolean): Override {
  const module = modules[name];
  if (module === undefined) throw new Error(`no module ${name}`);
  const others = Object.keys(modules).filter((other) => other !== name && other !== "lib");
  // `..` keeps a module's own folders, and packages that share a module's name, out of it.
  const above = others.filter((other) => !module.mayImport.includes(other));
  const below = others.filter((other) => module.mayImport.includes(other) && !shareFolder(name, other));
  const foreign = Object.keys(homes).filter((pattern) => !homes[pattern]?.some(inHome));
  const patterns: Pattern[] = [
    { group: above.map((other) => reach(name, other)), message: `${name}: ${module.why}.` },
    { group: below.flatMap((other) => [`../**/${other}/**`, `!../**/${other}/index.ts`]), message: "Enter a module by its index.ts." },
    { group: foreign, message: "This package has its home elsewhere: see homes in test/layers.ts." },
    { group: module.pure ? ["node:*", "node:*/**", ...pureBuiltins.map((builtin) => `!${builtin}`)] : [], message: `${name} is pure.` },
  ];
  return { files: [files], rules: { "no-restricted-imports": ["error", { patterns: patterns.filter(({ group }) => group.length > 0) }] } };
}

/** How `other` looks from inside `name`: the folder around it above, a nested module below or beside, the rest further off. */
function reach(name: string, other: string): string {
  if (name.startsWith(`${other}/`)) return "../*.ts";
  if (other.startsWith(`${name}/`)) return `./**/${other.slice(name.length + 1)}/**`;
  return `../**/${shareFolder(name, other) ? other.slice(other.indexOf("/") + 1) : other}/**`;
}

const moduleRules = Object.keys(modules)
  // A nested module's rule replaces that of the folder around it, so it comes later.
  .toSorted((a, b) => a.length - b.length)
  .map((name) => layerRule(`src/${name}/**/*.ts`, name, (place) => place.endsWith("/") && `${name}/`.startsWith(place)));

const homeFileRules = [...new Set(Object.values(homes).flat())]
  .filter((place) => place.endsWith(".ts"))
  .map((file) =>
    layerRule(`src/${file}`, moduleOf(file) ?? "", (place) => place === file || (place.endsWith("/") && file.startsWith(place))),
  );

const config: OxlintConfig = defineConfig({
  plugins: ["typescript", "unicorn", "import", "oxc", "vitest"],
  categories: { correctness: "error", suspicious: "error" },
  rules: {
    "max-lines": ["error", { max: 400 }],
    "max-lines-per-function": ["error", { max: 70, skipBlankLines: true, skipComments: true }],
    complexity: ["error", 10],
    "max-params": ["error", 4],
    "import/no-cycle": "error",
    "import/no-named-as-default-member": "off",
    // Meant for windows; worker threads have no origin.
    "unicorn/require-post-message-target-origin": "off",
    // An index that was just checked needs `as T` under noUncheckedIndexedAccess; decoders prove their casts by tests.
    "typescript/no-unsafe-type-assertion": "off",
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/no-explicit-any": "error",
    // What isolatedDeclarations would ask for as well, were it not that schemas (src/api) are values whose type nobody could write out.
    "typescript/explicit-module-boundary-types": "error",
    "typescript/switch-exhaustiveness-check": "error",
  },
  overrides: [
    ...moduleRules,
    ...homeFileRules,
    // Standard output carries results alone, and only the command line writes them.
    { files: ["src/**/*.ts"], rules: { "no-console": "error" } },
    {
      files: ["test/**"],
      rules: {
        "max-lines-per-function": "off",
        "unicorn/consistent-function-scoping": "off",
        // "Only typed errors come out" is said of what was caught.
        "vitest/no-conditional-expect": "off",
        // A model beside the subject, or a scenario, is one piece of many cases.
        complexity: "off",
        "vitest/expect-expect": ["error", { assertFunctionNames: ["expect", "expect*", "fc.assert", "assert*"] }],
        // The second argument says which of many cases it was.
        "vitest/valid-expect": ["error", { maxArgs: 2 }],
        "vitest/no-standalone-expect": "off",
      },
    },
  ],
  ignorePatterns: ["dist", "node_modules", ".cache"],
});

export default config;
