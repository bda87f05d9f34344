//! One look at a phone, and what follows from it: the next command, given the answers so far.

use std::collections::{BTreeMap, VecDeque};

use super::aim::{Aim, Found, package_question, quoted};
use super::recipe::{Recipe, RecipeStep};
use super::{AimResult, Report};
use crate::config::{BatteryUse, Start, Upkeep};
use crate::phone::profile::{package, property};
use crate::rack::ids::PackageName;

/// What tells which recipes fit.
const PROPERTIES: &str = "getprop";

/// One look at a phone. Whoever drives it runs what [`Pass::next`] gives and hands the answer to [`Pass::answer`], until there is
/// nothing more; then [`Pass::report`] tells what became of each aim.
#[derive(Debug)]
pub struct Pass<'u> {
    wanted: &'u Upkeep,
    agent: &'u PackageName,
    /// Every aim, once the phone is known.
    items: Vec<Item>,
    recipes: Vec<String>,
    sdk: u32,
    /// What is asked and ordered next.
    queue: VecDeque<Ask>,
    /// What the phone said, by the question.
    answers: BTreeMap<String, Result<String, String>>,
    stage: Stage,
}

#[derive(Debug)]
struct Item {
    name: String,
    aim: Aim,
    result: Option<AimResult>,
    /// What it was before it was set, and what its command said.
    was: Option<(String, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Who it is, and whether the agent is there.
    Meeting,
    Looking,
    Setting,
    LookingAgain,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ask {
    line: String,
    /// The aim that it sets; a question sets none.
    sets: Option<usize>,
}

impl<'u> Pass<'u> {
    /// A pass over a phone, nothing asked yet.
    #[must_use]
    pub fn new(wanted: &'u Upkeep, agent: &'u PackageName) -> Self {
        let mut pass = Self {
            wanted,
            agent,
            items: Vec::new(),
            recipes: Vec::new(),
            sdk: 0,
            queue: VecDeque::new(),
            answers: BTreeMap::new(),
            stage: Stage::Meeting,
        };
        pass.ask([PROPERTIES.to_owned(), package_question(agent)].into_iter());
        pass
    }

    /// The line that the phone's shell is to run now; `None` once the pass is over.
    #[must_use]
    pub fn next(&self) -> Option<&str> {
        self.queue.front().map(|ask| ask.line.as_str())
    }

    /// What came of the line that [`Self::next`] gave: what it said, or why it did not end, as a clause.
    pub fn answer(&mut self, answer: Result<String, String>) {
        let Some(Ask { line, sets }) = self.queue.pop_front() else { return };
        match sets.and_then(|index| self.items.get_mut(index)) {
            Some(item) => {
                let said = answer.unwrap_or_else(|why| why);
                if let Some((_, told)) = &mut item.was {
                    *told = Some(said).filter(|said| !said.trim().is_empty());
                }
            }
            None => drop(self.answers.insert(line, answer)),
        }
        if self.queue.is_empty() {
            self.go_on();
        }
    }

    /// Nothing more is asked; what is not known yet stays so.
    pub fn give_up(&mut self, why: &str) {
        self.queue.clear();
        self.stage = Stage::Over;
        for item in self.items.iter_mut().filter(|item| item.result.is_none()) {
            let why = why.to_owned();
            item.result = Some(match item.was.take() {
                Some((was, _)) => AimResult::Refused { was, why },
                None => AimResult::Unread { why },
            });
        }
    }

    /// What became of each aim.
    #[must_use]
    pub fn report(self) -> Report {
        let result = |item: Item| {
            let unread = || AimResult::Unread { why: "it was not asked".to_owned() };
            (item.name, item.result.unwrap_or_else(unread))
        };
        Report { recipes: self.recipes, results: self.items.into_iter().map(result).collect() }
    }

    /// All that was asked is answered. A stage in which there is nothing to ask leads to the next one at once.
    fn go_on(&mut self) {
        while self.queue.is_empty() && self.stage != Stage::Over {
            self.stage = match self.stage {
                Stage::Meeting => {
                    self.met();
                    Stage::Looking
                }
                Stage::Looking => {
                    self.looked();
                    Stage::Setting
                }
                Stage::Setting => {
                    let after = |item: &Item| item.aim.question_after(self.agent);
                    let again: Vec<String> =
                        self.items.iter().filter(|item| item.was.is_some()).filter_map(after).collect();
                    self.ask(again.into_iter());
                    Stage::LookingAgain
                }
                Stage::LookingAgain | Stage::Over => {
                    self.looked_again();
                    Stage::Over
                }
            };
        }
    }

    /// The phone is known: what is wanted of it, and what that must be asked.
    fn met(&mut self) {
        let getprop = self.heard(PROPERTIES);
        let dump = self.heard(&package_question(self.agent));
        let (getprop, unknown) = match getprop {
            Ok(getprop) => (getprop, "its properties do not tell its SDK".to_owned()),
            Err(why) => (String::new(), why),
        };
        let sdk = property(&getprop, "ro.build.version.sdk").and_then(|sdk| sdk.parse().ok());
        self.sdk = sdk.unwrap_or_default();
        let missing = match dump {
            Ok(dump) if package(&dump, self.agent).is_some() => None,
            Ok(_) => Some(AimResult::NotHere { why: "the agent is not installed".to_owned() }),
            Err(why) => Some(AimResult::Unread { why }),
        };
        self.items = self.wanted_here(&getprop);
        for item in &mut self.items {
            item.result = match &item.aim {
                Aim::Hand(what) => Some(AimResult::Hand { what: what.clone() }),
                _ if sdk.is_none() => Some(AimResult::Unread { why: unknown.clone() }),
                aim if aim.is_of_agent() => missing.clone(),
                _ => None,
            };
        }
        let open = self.items.iter().filter(|item| item.result.is_none());
        let questions: Vec<String> = open.filter_map(|item| item.aim.question(self.agent)).collect();
        self.ask(questions.into_iter());
    }

    /// The owner's own wishes, then the recipes of the phone's ROM; that it runs comes last, when nothing keeps it from that any more.
    fn wanted_here(&mut self, getprop: &str) -> Vec<Item> {
        let item = |name: String, aim| Item { name, aim, result: None, was: None };
        let Upkeep { permissions, settings, battery, start, health, every: _ } = self.wanted;
        let permission = |of: &crate::config::Permission| {
            let short = of.as_str().strip_prefix("android.permission.").unwrap_or(of.as_str());
            item(format!("permission {short}"), Aim::Permission(of.clone()))
        };
        let mut items: Vec<Item> = permissions.iter().map(permission).collect();
        items.extend(
            settings
                .iter()
                .map(|(name, value)| item(format!("setting {name}"), Aim::Setting(name.clone(), value.clone()))),
        );
        if *battery == BatteryUse::Exempt {
            for recipe in Recipe::of_phone(getprop) {
                self.recipes.push(recipe.title.clone());
                let steps = recipe.steps.iter().filter(|step| step.is_for(self.sdk));
                items.extend(steps.filter_map(|step| Some(item(step.name.clone(), aim_of(step)?))));
            }
        }
        let running = |start: &Start| Aim::Running { start: start.clone(), sign: health.clone() };
        items.extend(start.iter().map(|start| item("running".to_owned(), running(start))));
        items
    }

    /// What is otherwise is ordered to be set.
    fn looked(&mut self) {
        for index in 0..self.items.len() {
            let Some(item) = self.items.get(index).filter(|item| item.result.is_none()) else { continue };
            let question = item.aim.question(self.agent).unwrap_or_default();
            let found = self.found(&item.aim, &question);
            let command = item.aim.command(self.agent, self.sdk);
            let Some(item) = self.items.get_mut(index) else { continue };
            match (found, command) {
                (Found::Otherwise(was), Some(line)) => {
                    item.was = Some((was, None));
                    self.queue.push_back(Ask { line, sets: Some(index) });
                }
                (found, _) => item.result = Some(result_of(found)),
            }
        }
        self.answers.clear();
    }

    fn looked_again(&mut self) {
        for index in 0..self.items.len() {
            let Some(item) = self.items.get(index).filter(|item| item.result.is_none()) else { continue };
            let question = item.aim.question_after(self.agent).unwrap_or_default();
            let found = self.found(&item.aim, &question);
            let Some(item) = self.items.get_mut(index) else { continue };
            let Some((was, told)) = item.was.take() else { continue };
            let told = told.map(|told| format!("; the phone said {}", quoted(&last_line(&told)))).unwrap_or_default();
            item.result = Some(match found {
                Found::AsWanted => AimResult::Set { was },
                Found::Otherwise(now) => AimResult::Refused { was, why: format!("{now} also after it was set{told}") },
                Found::NotHere(why) | Found::Unread(why) => AimResult::Refused { was, why: format!("{why}{told}") },
            });
        }
    }

    fn found(&self, aim: &Aim, question: &str) -> Found {
        match self.heard(question) {
            Ok(answer) => aim.judge(&answer, self.agent, self.sdk),
            Err(why) => Found::Unread(why),
        }
    }

    fn heard(&self, question: &str) -> Result<String, String> {
        self.answers.get(question).cloned().unwrap_or_else(|| Err("it was not asked".to_owned()))
    }

    /// Asks each question once.
    fn ask(&mut self, questions: impl Iterator<Item = String>) {
        for line in questions {
            let ask = Ask { line, sets: None };
            if !self.answers.contains_key(&ask.line) && !self.queue.contains(&ask) {
                self.queue.push_back(ask);
            }
        }
    }
}

fn result_of(found: Found) -> AimResult {
    match found {
        Found::AsWanted => AimResult::Kept,
        Found::NotHere(why) => AimResult::NotHere { why },
        Found::Otherwise(why) | Found::Unread(why) => AimResult::Unread { why },
    }
}

fn aim_of(step: &RecipeStep) -> Option<Aim> {
    if step.deviceidle.is_some() {
        return Some(Aim::DozeWhitelist);
    }
    if let Some(bucket) = step.bucket {
        return Some(Aim::Bucket(bucket));
    }
    if let Some(what) = &step.hand {
        return Some(Aim::Hand(what.clone()));
    }
    let (op, mode) = (step.appop.clone()?, step.mode?);
    Some(Aim::AppOp { told_as: step.told_as.clone().unwrap_or_else(|| op.clone()), op, mode })
}

/// Java says last what was thrown.
fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
