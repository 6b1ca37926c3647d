//! Every crate asks for the features that it gets.
//!
//! Cargo builds a dependency once for the whole workspace, with what any crate asks for, so that a crate which forgot to ask is not found
//! out until somebody builds it alone. To build each alone would find it, and build most dependencies several times: they come to other
//! features each time. So all crates ask for the same, by way of `workspace.dependencies`, and here that is compared with what cargo makes of it:
//!
//! ```text
//!   cargo metadata   what each crate asks for, and what that brings along ─┐
//!                                                                          ├─ anything that a crate gets and did not ask for?
//!   cargo tree       what a dependency is built with, but for tests ───────┘
//! ```
//!
//! What only tests get is looked at where clippy sees all crates without their tests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::step::{self, Failed, cargo};

/// By name and version.
type Package<'a> = (&'a str, &'a str);

pub(crate) fn check() -> Result<(), Failed> {
    println!("\n── features: every crate asks for what it gets");
    let metadata = step::output(&mut cargo(["metadata", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)
        .map_err(|error| Failed::new(format!("cargo metadata: {error}")))?;
    let tree = step::output(
        cargo(["tree", "--workspace", "--edges", "normal", "--no-dedupe"])
            .args(["--prefix", "none", "--format", "{p}|{f}"]),
    )?;
    let forgotten = forgotten(&metadata, &built(&tree));
    if forgotten.is_empty() {
        return Ok(());
    }
    Err(Failed::new(format!(
        "{}\nwhere it is meant to be there, name it in workspace.dependencies",
        forgotten.join("\n")
    )))
}

/// What dependencies are built with: lines of a package, its version and its features.
fn built(tree: &str) -> BTreeMap<Package<'_>, BTreeSet<&str>> {
    let mut built: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in tree.lines() {
        let Some((package, features)) = line.split_once('|') else {
            continue;
        };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let version = version.trim_start_matches('v');
        let features = features.split(',').filter(|feature| !feature.is_empty());
        built.entry((name, version)).or_default().extend(features);
    }
    built
}

/// A line for each dependency of each crate that has features nobody there asked for.
fn forgotten(metadata: &Value, built: &BTreeMap<Package<'_>, BTreeSet<&str>>) -> Vec<String> {
    let packages: BTreeMap<_, _> = items(&metadata["packages"])
        .map(|package| (text(&package["id"]), package))
        .collect();
    let members: BTreeSet<_> = items(&metadata["workspace_members"]).map(text).collect();
    let mut lines = Vec::new();
    for node in items(&metadata["resolve"]["nodes"]) {
        let Some(member) = packages
            .get(text(&node["id"]))
            .filter(|_| members.contains(text(&node["id"])))
        else {
            continue;
        };
        for found in items(&node["deps"]).filter(|found| !members.contains(text(&found["pkg"]))) {
            let Some(package) = packages.get(text(&found["pkg"])) else {
                continue;
            };
            let name = text(&package["name"]);
            let Some(built) = built.get(&(name, text(&package["version"]))) else {
                continue;
            };
            let asked: Vec<_> = items(&member["dependencies"])
                .filter(|asked| text(&asked["name"]) == name && asked["kind"].is_null())
                .collect();
            if asked.is_empty() {
                continue;
            }
            let asked = asked.into_iter().flat_map(|asked| {
                let default = (asked["uses_default_features"] == true).then_some("default");
                items(&asked["features"]).map(text).chain(default)
            });
            let asked = with_what_they_bring(package, asked);
            let surplus: Vec<_> = built.difference(&asked).copied().collect();
            if !surplus.is_empty() {
                lines.push(format!(
                    "{} gets {name} with {} and did not ask for it",
                    text(&member["name"]),
                    surplus.join(", ")
                ));
            }
        }
    }
    lines.sort();
    lines
}

/// Features of a package, and those that they switch on in it.
fn with_what_they_bring<'a>(
    package: &'a Value,
    asked: impl Iterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut open: Vec<_> = asked.collect();
    while let Some(feature) = open.pop() {
        if !all.insert(feature) {
            continue;
        }
        for brought in items(&package["features"][feature]).map(text) {
            // `dep:x` and `x?/y` switch on nothing that has a name here; `x/y` switches on `x`.
            let (brought, _) = brought.split_once('/').unwrap_or((brought, ""));
            if !brought.starts_with("dep:") && !brought.ends_with('?') {
                open.push(brought);
            }
        }
    }
    all
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Two crates of which each depends on `net`; the second asks for `tls`, which brings `crypto`.
    fn workspace(first: &[&str], second: &[&str]) -> Value {
        let member = |id, features: &[&str]| {
            json!({ "id": id, "name": id, "version": "0.1.0", "features": {}, "dependencies": [{
                "name": "net", "kind": null, "uses_default_features": true, "features": features,
            }] })
        };
        let net = json!({ "id": "net#1", "name": "net", "version": "1.0.0", "dependencies": [], "features": {
            "default": ["std"], "std": [], "tls": ["crypto", "dep:ring", "bytes/std", "log?/std"], "crypto": [],
        } });
        let node = |id| json!({ "id": id, "deps": [{ "pkg": "net#1" }] });
        json!({
            "packages": [member("a", first), member("b", second), net],
            "workspace_members": ["a", "b"],
            "resolve": { "nodes": [node("a"), node("b"), json!({ "id": "net#1", "deps": [] })] },
        })
    }

    const TREE: &str = "a v0.1.0 (somewhere)|\nnet v1.0.0|bytes,crypto,default,std,tls\n\nb v0.1.0 (somewhere)|\nnet v1.0.0|default\n";

    #[test]
    fn a_crate_that_lives_off_anothers_features_is_found() {
        let found = forgotten(&workspace(&[], &["tls"]), &built(TREE));
        assert_eq!(
            found,
            ["a gets net with bytes, crypto, tls and did not ask for it"]
        );
    }

    #[test]
    fn crates_that_ask_for_what_they_get_are_not() {
        let found = forgotten(&workspace(&["tls"], &["tls"]), &built(TREE));
        assert!(found.is_empty(), "{found:?}");
    }
}
