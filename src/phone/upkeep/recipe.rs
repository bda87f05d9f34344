//! What keeps a phone's ROM from putting the agent to sleep: data, by maker and ROM.

use std::sync::LazyLock;

use serde::Deserialize;

use super::aim::{AppOpMode, Bucket};
use crate::phone::profile::property;

/// All that are known, in the order in which they apply.
const DATA: &str = include_str!("recipes.toml");

/// Read once; that it can be read, and that each step is one thing, `tests::each_recipe_says_one_thing_a_step` shows.
static KNOWN: LazyLock<Vec<Recipe>> = LazyLock::new(|| read(DATA).unwrap_or_default());

/// A ROM's way of being told to leave an app alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What people and metrics call it.
    pub name: String,
    /// The ROM, for people.
    pub title: String,
    /// `ro.product.manufacturer` or `ro.product.brand`, in lower case; all, if none is named.
    #[serde(default)]
    pub makers: Vec<String>,
    /// Properties of which one has a value on such a ROM; all phones, if none is named.
    #[serde(default)]
    pub properties: Vec<String>,
    /// What to see to, in order.
    #[serde(rename = "step")]
    pub steps: Vec<RecipeStep>,
}

/// One thing to see to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeStep {
    /// What people and metrics call it.
    pub name: String,
    /// Doze's whitelist.
    #[serde(default)]
    pub deviceidle: Option<Deviceidle>,
    /// The app standby bucket, at the worst.
    #[serde(default)]
    pub bucket: Option<Bucket>,
    /// An operation of the app, as `appops` is told it.
    #[serde(default)]
    pub appop: Option<String>,
    /// The same, as `appops` answers with it; the same word, if absent.
    #[serde(default)]
    pub told_as: Option<String>,
    /// What that operation shall be.
    #[serde(default)]
    pub mode: Option<AppOpMode>,
    /// What only a hand can do.
    #[serde(default)]
    pub hand: Option<String>,
    /// The first SDK that has it.
    #[serde(default)]
    pub min_sdk: Option<u32>,
    /// The last SDK that has it.
    #[serde(default)]
    pub max_sdk: Option<u32>,
}

/// Doze's whitelist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviceidle {
    /// The app is on it.
    Exempt,
}

impl Recipe {
    /// Those that fit a phone with these properties (`getprop`), in order.
    pub fn of_phone(getprop: &str) -> impl Iterator<Item = &'static Self> + '_ {
        KNOWN.iter().filter(move |recipe| recipe.fits(getprop))
    }

    fn fits(&self, getprop: &str) -> bool {
        let is_maker = |key| {
            let maker = property(getprop, key).unwrap_or_default();
            self.makers.iter().any(|name| name.eq_ignore_ascii_case(maker))
        };
        let maker_fits = self.makers.is_empty() || is_maker("ro.product.manufacturer") || is_maker("ro.product.brand");
        maker_fits && (self.properties.is_empty() || self.properties.iter().any(|key| property(getprop, key).is_some()))
    }
}

impl RecipeStep {
    /// Whether Androids of this SDK have it.
    #[must_use]
    pub fn is_for(&self, sdk: u32) -> bool {
        self.min_sdk.is_none_or(|least| sdk >= least) && self.max_sdk.is_none_or(|most| sdk <= most)
    }
}

fn read(text: &str) -> Result<Vec<Recipe>, toml::de::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        recipe: Vec<Recipe>,
    }
    toml::from_str::<File>(text).map(|file| file.recipe)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_recipe_says_one_thing_a_step() {
        let recipes = read(DATA).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(recipes.len(), KNOWN.len());
        let mut names = BTreeSet::new();
        for recipe in &recipes {
            assert!(!recipe.steps.is_empty() && !recipe.title.is_empty(), "{}", recipe.name);
            assert!(names.insert(recipe.name.clone()), "{} stands there twice", recipe.name);
            assert!(recipe.makers.iter().all(|maker| *maker == maker.to_lowercase()), "{}", recipe.name);
            for step in &recipe.steps {
                let kinds =
                    [step.deviceidle.is_some(), step.bucket.is_some(), step.appop.is_some(), step.hand.is_some()];
                assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "{}", step.name);
                assert_eq!(step.appop.is_some(), step.mode.is_some(), "{}", step.name);
                assert!(step.told_as.is_none() || step.appop.is_some(), "{}", step.name);
                assert!(step.min_sdk.unwrap_or(0) <= step.max_sdk.unwrap_or(u32::MAX), "{}", step.name);
                let word = |text: &String| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                assert!(step.appop.iter().all(word), "{}", step.name);
                assert!(names.insert(step.name.clone()), "{} stands there twice", step.name);
            }
        }
    }

    #[test]
    fn what_a_file_must_not_say_is_refused() {
        for text in [
            "[[recipe]]\nname = \"x\"",
            "[[recipe]]\nname=\"x\"\ntitle=\"X\"\nstep=[{name=\"a\",bucket=\"best\"}]",
            "x = 1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_recipe_is_for_its_maker_and_rom() {
        let names = |getprop: &str| Recipe::of_phone(getprop).map(|recipe| recipe.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(""), ["android"]);
        let xiaomi = "[ro.product.manufacturer]: [Xiaomi]\n[ro.product.brand]: [Redmi]\n";
        assert_eq!(names(xiaomi), ["android"], "it runs another ROM than its maker's");
        assert_eq!(names(&format!("{xiaomi}[ro.mi.os.version.name]: [OS1.0]\n")), ["android", "miui"]);
        assert_eq!(names("[ro.product.brand]: [HONOR]\n"), ["android", "emui"]);
        assert_eq!(names("[ro.product.manufacturer]: [samsung]\n"), ["android", "oneui"]);
    }
}
