//! Manifests, good and bad: what the parser says of each, and that the JSON Schema agrees with it.
//!
//! Every file and folder of `tests/manifest/{good,bad}` and of `manifests/` is a case; none needs a database.

use std::path::{Path, PathBuf};

use emaj::manifest::{Diagnostics, Loaded, load, schema};

fn cases(folder: &str) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {folder}");
    cases
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn check(path: &Path) -> Result<Loaded, Diagnostics> {
    load(&[path.to_owned()])
}

/// Returns what the gallery's folders mean: one manifest, or (two teams) one manifest a file.
fn gallery() -> Vec<PathBuf> {
    cases("manifests")
        .into_iter()
        .flat_map(|path| {
            if path.ends_with("05-two-teams-one-database") {
                cases(path.to_str().unwrap())
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn bad_manifests_say_what_is_wrong() {
    for path in cases("tests/manifest/bad") {
        let problems = check(&path).expect_err(&path.display().to_string());
        let lines: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(
            format!("bad_{}", stem(&path)),
            format!("{}\n\n{}", problems.render(false), lines.join("\n"))
        );
    }
}

#[test]
fn good_manifests_become_values() {
    for path in cases("tests/manifest/good") {
        let loaded = check(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let warnings = Diagnostics(loaded.warnings).render(false);
        insta::assert_snapshot!(
            format!("good_{}", stem(&path)),
            format!("{warnings}\n\n{:#?}", loaded.manifest)
        );
    }
}

#[test]
fn the_gallery_is_valid_without_a_warning() {
    for path in gallery() {
        let loaded = check(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(
            loaded.warnings.is_empty(),
            "{}",
            Diagnostics(loaded.warnings).render(false)
        );
    }
}

#[test]
fn no_secret_is_ever_shown() {
    for path in cases("tests/manifest/bad")
        .into_iter()
        .chain(cases("tests/manifest/good"))
    {
        let (problems, debug) = match check(&path) {
            Ok(loaded) => (Diagnostics(loaded.warnings), format!("{:?}", loaded.manifest)),
            Err(problems) => (problems, String::new()),
        };
        let json = serde_json::to_string(&problems).unwrap();
        let shown = format!("{problems}{problems:?}{}{json}{debug}", problems.render(true));
        assert!(
            !shown.contains("hunter2") && !shown.contains("12345"),
            "{}: {shown}",
            path.display()
        );
    }
}

fn yaml_files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"))
        .collect()
}

/// Reads a file as JSON; `None` when it is no YAML or says a key twice.
fn as_json(path: &Path) -> Option<serde_json::Value> {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_slice_with_options(&std::fs::read(path).unwrap(), options).ok()
}

#[test]
fn the_schema_takes_every_good_manifest() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for path in gallery()
        .iter()
        .chain(&cases("tests/manifest/good"))
        .flat_map(|path| yaml_files(path))
    {
        let json = as_json(&path).unwrap_or_else(|| panic!("{} is no YAML", path.display()));
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

/// Bad manifests whose structure is right: what is wrong ties two places together, or is inside of a text.
const BEYOND_THE_SCHEMA: [&str; 10] = [
    "nothing_declared",
    "nul_and_dollars",
    "references",
    "shared_rows",
    "template_words",
    "uri_and_roles",
    "values_as_they_are",
    "several",
    "no_yaml",
    "empty",
];

#[test]
fn the_schema_refuses_every_structural_error() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut refused = 0;
    for path in cases("tests/manifest/bad") {
        if BEYOND_THE_SCHEMA.contains(&stem(&path).as_str()) {
            continue;
        }
        if let Some(json) = as_json(&path) {
            assert!(!validator.is_valid(&json), "{} is valid by the schema", path.display());
            refused += 1;
        }
    }
    assert!(refused >= 10, "only {refused} bad manifests are YAML");
}

/// What the schema refuses, the parser refuses too, whatever single thing of a good manifest is replaced.
#[test]
fn the_parser_is_never_laxer_than_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = as_json(Path::new("tests/manifest/good/everything.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut pointers = Vec::new();
    collect_pointers(&good, String::new(), &mut pointers);
    let replacements = [
        serde_json::json!(null),
        serde_json::json!(-7),
        serde_json::json!(true),
        serde_json::json!("§"),
        serde_json::json!([]),
        serde_json::json!({}),
        serde_json::json!({ "§": 1 }),
    ];
    let mut refused = 0;
    for (at, pointer) in pointers.iter().enumerate() {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = replacements[at % replacements.len()].clone();
        if !validator.is_valid(&changed) {
            let path = folder.path().join("m.yaml");
            // JSON is YAML.
            std::fs::write(&path, serde_json::to_string_pretty(&changed).unwrap()).unwrap();
            assert!(
                load(&[path]).is_err(),
                "the parser takes {pointer} = {}",
                replacements[at % replacements.len()]
            );
            refused += 1;
        }
    }
    assert!(
        refused > 100,
        "only {refused} of {} changes are refused",
        pointers.len()
    );
}

fn collect_pointers(value: &serde_json::Value, at: String, pointers: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        serde_json::Value::Object(map) => {
            map.iter()
                .for_each(|(key, value)| collect_pointers(value, format!("{at}/{}", escape(key)), pointers));
        }
        serde_json::Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(i, value)| collect_pointers(value, format!("{at}/{i}"), pointers));
        }
        _ => {}
    }
    pointers.push(at);
}

#[test]
fn the_documentation_has_every_key() {
    let docs = std::fs::read_to_string("docs/manifest.md").unwrap();
    let missing: Vec<String> = emaj::manifest::key_paths()
        .into_iter()
        .filter(|path| !docs.contains(&format!("`{}`", last_two(path))))
        .collect();
    assert!(missing.is_empty(), "docs/manifest.md does not describe {missing:#?}");
}

/// Keys are described in tables under a heading, by their own name.
fn last_two(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[test]
fn a_flood_of_problems_is_cut() {
    let mut text = "version: 1\nsinks:\n".to_owned();
    (0..300).for_each(|i| text += &format!("  s{i}: {{ file: {{ path: x }} }}\n"));
    text += "groups:\n  late: { tables: [x] }\n";
    let problems = emaj::manifest::parse(Path::new("m.yaml"), &text).unwrap_err();
    assert!(problems.has_errors(), "the error is among those that are kept");
    assert_eq!(problems.0.len(), 201);
    assert_eq!(
        problems.0.last().unwrap().message,
        "there are more problems than the 200 shown"
    );
}

#[test]
fn names_come_from_the_file_or_the_folder() {
    let name =
        |paths: &[&str]| load(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).map(|loaded| loaded.manifest.name);
    assert_eq!(name(&["manifests/01-first-group.yaml"]).unwrap(), "01-first-group");
    assert_eq!(
        name(&["manifests/01-first-group.yaml", "./manifests/01-first-group.yaml"]).unwrap(),
        "01-first-group"
    );
    assert_eq!(name(&["manifests/05-two-teams-one-database/a.yaml"]).unwrap(), "sales");
    assert_eq!(name(&["manifests/08-several-files"]).unwrap(), "shop");
    let problems = name(&["manifests/01-first-group.yaml", "manifests/03-audit-only.yaml"]).unwrap_err();
    assert!(
        problems.to_string().contains("none says the manifest's name"),
        "{problems}"
    );
    assert!(name(&[]).unwrap_err().to_string().contains("no manifest was given"));
    assert!(
        name(&["no/such.yaml"])
            .unwrap_err()
            .to_string()
            .contains("there is no such file")
    );
}

#[test]
fn problems_become_an_error_of_the_manifest_kind() {
    let problems =
        emaj::manifest::parse(Path::new("m.yaml"), "version: 2\ngroups: { a: { tables: [a] } }\n").unwrap_err();
    let error = emaj::errors::Error::from(problems);
    assert_eq!(error.exit_code(), 65);
    let text = error.to_string();
    assert!(
        text.contains("2 errors") && text.contains("m.yaml:1:10") && text.contains("m.yaml:2:25"),
        "{text}"
    );
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = include_str!("manifest/good/everything.yaml");

    /// Cuts, doubles or replaces a stretch of `text`.
    fn mutate(text: &str, edits: &[(usize, usize, u8, String)]) -> String {
        let mut text = text.to_owned();
        for (start, len, kind, new) in edits {
            let start = text.floor_char_boundary(start % (text.len() + 1));
            let end = text.ceil_char_boundary((start + len).min(text.len()));
            let stretch = text[start..end].to_owned();
            let new = match kind % 4 {
                0 => String::new(),
                1 => stretch.repeat(2),
                2 => new.clone(),
                _ => stretch.chars().rev().collect(),
            };
            text.replace_range(start..end, &new);
        }
        text
    }

    thread_local! {
        static SCHEMA: jsonschema::Validator = jsonschema::validator_for(&schema()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_mutation_makes_the_parser_panic(
            edits in prop::collection::vec((any::<usize>(), 0..60_usize, any::<u8>(), "[\\[\\]{}:,\"'!*&%$#|>\\-? \\n\\ta-zé0-9.]{0,6}"), 1..5)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("m.yaml");
            std::fs::write(&path, mutate(GOOD, &edits)).unwrap();
            let problems = match load(std::slice::from_ref(&path)) {
                Ok(loaded) => {
                    // What the parser takes, the schema takes too.
                    let json = as_json(&path).unwrap();
                    prop_assert!(SCHEMA.with(|schema| schema.is_valid(&json)), "{json}");
                    let _ = format!("{:?}", loaded.manifest);
                    Diagnostics(loaded.warnings)
                }
                Err(problems) => {
                    prop_assert!(problems.has_errors());
                    problems
                }
            };
            let _ = (problems.render(true), problems.to_string(), serde_json::to_string(&problems).unwrap());
            prop_assert!(!problems.to_string().contains("bug:"));
        }
    }
}
