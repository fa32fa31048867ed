//! The pages are true: the commands of their `console` blocks run, in the order in which they stand there, in a shell as a person
//! would type them, and the pages show what is said. Links lead to files that are there. What has to happen and is not to be shown
//! stands between the blocks: `<!-- $ command -->`.
//!
//! With `EMAJ_UPDATE_DOCS=1` the pages are written instead of compared. A line `…` stands for lines that a page leaves out; it
//! stays as long as what stands around it is true.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emaj::cluster::Cluster;
use regex::Regex;

use crate::support::redact;

const UPDATE: &str = "EMAJ_UPDATE_DOCS";
const LEFT_OUT: &str = "…";

/// Where the commands of one page run: a cluster of their own with a database `shop` that belongs to an ordinary role.
struct Place {
    cluster: Cluster,
    directory: tempfile::TempDir,
    role: &'static str,
}

impl Place {
    fn new(role: &'static str) -> Place {
        let place = Place {
            // On a slow machine it would hold a lock that a command of the page wants.
            cluster: Cluster::builder().settings([("autovacuum", "off")]).start().unwrap(),
            directory: tempfile::tempdir().unwrap(),
            role,
        };
        std::os::unix::fs::symlink(root().join("manifests"), place.directory.path().join("manifests")).unwrap();
        place.prepare(&format!(
            "psql -q -d postgres -U postgres -c 'create role {role} login createdb'"
        ));
        place
    }

    /// Writes the first block of a kind in a page to a file.
    fn lay(&self, page: &str, kind: &str, file: &str) {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let (_, rest) = text.split_once(&format!("```{kind}\n")).expect(kind);
        std::fs::write(self.directory.path().join(file), rest.split_once("```").expect(kind).0).unwrap();
    }

    /// Runs something that a page takes for granted.
    fn prepare(&self, command: &str) {
        let (said, code) = self.run(command);
        assert_eq!(code, 0, "`{command}` says:\n{said}");
    }

    /// Returns what a command says, on both streams in their order, and its exit code.
    fn run(&self, command: &str) -> (String, i32) {
        let program = Path::new(env!("CARGO_BIN_EXE_emaj")).parent().unwrap();
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            program.display(),
            self.cluster.bindir().display()
        );
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(self.directory.path())
            // Nothing of the person who runs the tests may lead a command elsewhere.
            .env_clear()
            .envs(self.cluster.env("shop"))
            .envs([
                ("PGUSER", self.role),
                ("PATH", &path),
                ("TZ", "UTC"),
                ("LC_ALL", "C.UTF-8"),
            ])
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout)
            .unwrap()
            // In the page the directory has a name that people have.
            .replace(
                &self.directory.path().display().to_string(),
                &format!("/home/{}", self.role),
            );
        (said, output.status.code().unwrap())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asserts that a page shows what its commands say; `least` is how many commands it has at least.
fn hold(page: &str, place: &Place, least: usize) {
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut real = String::new();
    let (mut commands, mut last_code, mut last) = (0, 0, "");
    let mut lines = text.lines().peekable();
    let mut inside = false;
    while let Some(line) = lines.next() {
        real.push_str(&format!("{line}\n"));
        if let Some(command) = line.strip_prefix("<!-- $ ").filter(|_| !inside) {
            place.prepare(command.strip_suffix(" -->").expect("the comment ends where it begins"));
        }
        let command = line.strip_prefix("$ ").filter(|_| inside);
        inside = if inside { line != "```" } else { line == "```console" };
        let Some(command) = command else { continue };
        let mut shown = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
            shown.push(line);
        }
        commands += 1;
        let said = if command == "echo $?" {
            std::mem::take(&mut last_code).to_string() + "\n"
        } else {
            assert_eq!(last_code, 0, "{page}: `{last}` fails, and no `echo $?` comes after it");
            let (said, code) = place.run(command);
            (last_code, last) = (code, command);
            said
        };
        if fits(&shown, &said) {
            real.extend(shown.iter().map(|line| format!("{line}\n")));
        } else {
            real.push_str(&said);
        }
    }
    assert_eq!(last_code, 0, "{page}: `{last}` fails");
    assert!(commands >= least, "{page}: only {commands} commands");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, real).unwrap();
    } else {
        let note = format!("{page}: run again with {UPDATE}=1 to write the page");
        assert_eq!(comparable(&text), comparable(&real), "{note}");
    }
}

/// Returns whether what was said is what is shown, but for what differs from run to run and for lines that are left out.
fn fits(shown: &[&str], said: &str) -> bool {
    let (shown, said) = (comparable(&shown.join("\n")), comparable(said.trim_end_matches('\n')));
    let said: Vec<&str> = said.lines().collect();
    let shown: Vec<&str> = shown.lines().collect();
    let parts: Vec<&[&str]> = shown.split(|line| *line == LEFT_OUT).collect();
    let (first, rest) = parts.split_first().expect("a split has a part");
    let Some((end, middle)) = rest.split_last() else {
        return shown == said;
    };
    if !said.starts_with(first) || !said.ends_with(end) || first.len() + end.len() > said.len() {
        return false;
    }
    let mut left = &said[first.len()..said.len() - end.len()];
    middle.iter().all(|part| {
        let at = part
            .is_empty()
            .then_some(0)
            .or_else(|| left.windows(part.len().max(1)).position(|lines| lines == *part));
        left = at.map_or(left, |at| &left[at + part.len()..]);
        at.is_some()
    })
}

/// A text without what differs from run to run; columns are as wide as the names in them.
fn comparable(text: &str) -> String {
    [
        (r"\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d\.\d{6}", "[stamp]"),
        (r"/home/\w+", "[home]"),
        (r"\b(just now|(\d+ (h|min|s) )+ago)", "[age]"),
        (r"\bprocess \d+", "process [pid]"),
        (r"\bid=items-[0-9a-f-]+", "id=[id]"),
        // What differs from version to version, of PostgreSQL and of emaj.
        (r"\b\d+ kB\b", "[n] kB"),
        // How wide a column is depends on what stands in it.
        (r"[ -]{2,}", "  "),
        (r"(?m) +$", ""),
    ]
    .iter()
    .fold(redact(text), |text, (pattern, stand_in)| {
        Regex::new(pattern).unwrap().replace_all(&text, *stand_in).into_owned()
    })
}

#[test]
fn the_front_page_is_true() {
    let place = Place::new("shopkeeper");
    place.lay("README.md", "yaml", "emaj.yaml");
    hold("README.md", &place, 12);
}

#[test]
fn the_page_of_manifests_is_true() {
    let place = Place::new("shopkeeper");
    place.prepare("createdb shop && psql -q -o /dev/null -f manifests/shop.sql");
    hold("docs/commands/manifest.md", &place, 15);
}

/// A place with the tables and the manifest that stand in a page.
fn laid_out(page: &str) -> Place {
    let place = Place::new("keeper");
    place.lay(page, "sql", "shop.sql");
    place.lay(page, "yaml", "emaj.yaml");
    place.prepare("createdb shop && psql -q -f shop.sql && emaj install");
    place
}

#[test]
fn the_page_of_keys_is_true() {
    hold("docs/manifest.md", &Place::new("shopkeeper"), 2);
}

const TIME_TRAVEL: &str = "docs/commands/time-travel.md";

#[test]
fn the_page_of_time_travel_is_true() {
    hold(TIME_TRAVEL, &laid_out(TIME_TRAVEL), 15);
}

#[test]
fn the_page_of_delivery_is_true() {
    let page = "docs/commands/delivery.md";
    hold(page, &laid_out(page), 12);
}

#[test]
fn the_page_of_refusals_is_true() {
    hold("docs/when-it-says-no.md", &laid_out(TIME_TRAVEL), 30);
}

#[test]
fn the_page_of_restored_copies_is_true() {
    hold("docs/restored.md", &laid_out(TIME_TRAVEL), 5);
}

/// What the page of refusals quotes is shown word for word where its line leads to.
#[test]
fn refusals_are_quoted_word_for_word() {
    let page = root().join("docs/when-it-says-no.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let quoted = Regex::new("`([^`]*)`").unwrap();
    let link = Regex::new(r"\]\(([^)#]*)#?[^)]*\)").unwrap();
    let shown = |path: &Path| -> String {
        let text = std::fs::read_to_string(path).unwrap();
        let blocks = text.split("```console\n").skip(1);
        blocks.filter_map(|block| block.split("\n```").next()).collect()
    };
    let mut quotes = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let seen = row.split('|').nth(1).unwrap();
        let there: String = link
            .captures_iter(row)
            .map(|found| match &found[1] {
                "" => shown(&page),
                file => shown(&page.with_file_name(file)),
            })
            .collect();
        // A single word is a name.
        for message in quoted.captures_iter(seen).map(|found| found.get(1).unwrap().as_str()) {
            if !message.contains(' ') {
                continue;
            }
            let parts: Vec<_> = message.split('…').map(regex::escape).collect();
            let wording = Regex::new(&parts.join(".*")).unwrap();
            assert!(
                wording.is_match(&there),
                "nothing that the line leads to shows `{message}`"
            );
            quotes += 1;
        }
    }
    assert!(quotes > 10, "only {quotes} messages");
}

#[test]
fn lines_may_be_left_out_and_nothing_else() {
    let said = "a\nb\nc\nd\n";
    for shown in [
        "a\nb\nc\nd",
        "…\nd",
        "a\n…",
        "a\n…\nc\n…",
        "…\nb\n…\nd",
        "a\n…\nb\nc\nd",
        "…",
    ] {
        assert!(fits(&shown.lines().collect::<Vec<_>>(), said), "{shown}");
    }
    for shown in [
        "a\nb\nc",
        "",
        "…\nc",
        "b\n…",
        "a\n…\nc\n…\nb\n…",
        "a\nb\nc\n…\nc\nd",
        "a\n…\nx\n…\nd",
    ] {
        assert!(!fits(&shown.lines().collect::<Vec<_>>(), said), "{shown}");
    }
    assert!(fits(&[], ""));
}

/// Returns the pages that people read.
pub fn pages() -> Vec<PathBuf> {
    let mut found: Vec<_> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]
        .map(|name| root().join(name))
        .into();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// A text without its blocks.
fn prose(text: &str) -> String {
    Regex::new(r"(?ms)^```.*?^```$")
        .unwrap()
        .replace_all(text, "")
        .into_owned()
}

/// Returns what links to the headings of a text end with; `level` is their hashes.
fn anchors(text: &str, level: &str) -> Vec<String> {
    let of = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars()
            .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
            .collect()
    };
    let heading = Regex::new(&format!("(?m)^{level} (.+)$")).unwrap();
    heading.captures_iter(&prose(text)).map(|found| of(&found[1])).collect()
}

/// A page that begins with a list of its sections has all of them there.
#[test]
fn lists_of_contents_are_whole() {
    let mut lists = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let (head, _) = text.split_once("\n## ").unwrap_or((&text, ""));
        let listed = |line: &str| line.starts_with("- [") && line.contains("](#");
        if !head.lines().any(listed) && !page.ends_with("when-it-says-no.md") {
            continue;
        }
        lists += 1;
        for anchor in anchors(&text, "##") {
            assert!(head.contains(&format!("(#{anchor})")), "{}: {anchor}", page.display());
        }
    }
    assert!(lists > 1, "{lists}");
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let anchors = |path: &Path| anchors(&std::fs::read_to_string(path).unwrap(), "#+");
    let (mut checked, mut broken) = (0, Vec::new());
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for found in link.captures_iter(&prose(&text)) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                page.clone()
            } else {
                page.with_file_name(file)
            };
            let there = path.exists() && (anchor.is_empty() || anchors(&path).iter().any(|one| one == anchor));
            if !there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(checked > 20, "only {checked} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The list of the manual's pages has them all.
#[test]
fn every_page_is_in_the_list() {
    let list = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    let docs = root().join("docs");
    let pages = pages();
    let within: Vec<_> = pages.iter().filter_map(|page| page.strip_prefix(&docs).ok()).collect();
    assert!(within.len() > 20, "{within:?}");
    for page in within.into_iter().filter(|page| *page != Path::new("README.md")) {
        assert!(
            list.contains(&format!("({})", page.display())),
            "docs/README.md does not list {}",
            page.display()
        );
    }
}

/// Every test that a page names is one, or the beginning of the names of several.
#[test]
fn tests_that_pages_name_are_there() {
    let listed = Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let named = Regex::new("`([a-z_]+(?:::[a-z_]+)*)`").unwrap();
    let mut names = Vec::new();
    // Which cell of a row has them, from the end.
    for (page, cell) in [("docs/beside-emaj.md", 1), ("docs/reliability.md", 3)] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| "));
        for cell in rows.filter_map(|line| line.rsplit('|').nth(cell)) {
            names.extend(named.captures_iter(cell).map(|found| found[1].to_owned()));
        }
    }
    assert!(names.len() > 80, "only {}", names.len());
    let is_there = |name: &str| {
        let below = |test: &&str| {
            test.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        tests.iter().any(below)
    };
    let gone: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(gone.is_empty(), "no such test: {gone:#?}");
}
