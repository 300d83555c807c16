//! The policy: every decision of the configuration, compiled.

use std::fmt;

use super::CaptureSettings;
use super::plan::Plan;
use super::rules::{Conditions, Decision, Rules};
use super::token::Tokens;

/// Rules, redaction, identity and GeoIP, compiled: immutable, swapped as a whole on reload.
pub struct Policy {
    rules: Rules,
    /// One for each rule, and last the one of the defaults.
    plans: Vec<Plan>,
    pub(super) tokens: Tokens,
}

/// Something in the configuration can't be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.place())]
pub struct PolicyError {
    /// Index of the rule, where it is about one.
    pub rule: Option<usize>,
    /// The keys that lead to the value: within the rule, or from the top.
    pub key: Vec<String>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Policy {
    /// Compiles the settings, reads the files they name, and makes the token key on the first run.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn compile(settings: &CaptureSettings<'_>) -> Result<Self, Vec<PolicyError>> {
        let file = settings.redaction.key_file.clone().unwrap_or_else(|| settings.data.join("token.key"));
        let tokens = Tokens::open(&file).map_err(|e| {
            let message = format!("the key file {} can't be used: {e}", file.display());
            vec![PolicyError { rule: None, key: vec!["redaction".to_owned(), "key_file".to_owned()], message }]
        });
        match (Self::build(settings, Tokens::ephemeral()), tokens) {
            (Ok(policy), Ok(tokens)) => Ok(Self { tokens, ..policy }),
            (Err(mut wrong), Err(more)) => {
                wrong.extend(more);
                Err(wrong)
            }
            (Err(wrong), Ok(_)) | (Ok(_), Err(wrong)) => Err(wrong),
        }
    }

    /// What [`Policy::compile`] would complain of, without making any file.
    pub fn check(settings: &CaptureSettings<'_>) -> Vec<PolicyError> {
        Self::build(settings, Tokens::ephemeral()).err().unwrap_or_default()
    }

    fn build(settings: &CaptureSettings<'_>, tokens: Tokens) -> Result<Self, Vec<PolicyError>> {
        let mut wrong = Vec::new();
        let (mut plans, mut conditions) = (Vec::new(), Vec::new());
        for (index, rule) in settings.rules.iter().enumerate() {
            let mut complaints = Vec::new();
            if rule.name.is_empty() {
                complaints.push((vec!["name".to_owned()], "every rule has a name: write `name = \"…\"`".to_owned()));
            } else if settings.rules[..index].iter().any(|r| r.name == rule.name) {
                complaints.push((
                    vec!["name".to_owned()],
                    format!("there is another rule `{}`; names are unique", rule.name),
                ));
            }
            match Conditions::compile(&rule.matches) {
                Ok(compiled) => conditions.push(compiled),
                Err(all) => {
                    complaints.extend(all.into_iter().map(|(key, e)| (vec!["match".to_owned(), key.to_owned()], e)))
                }
            }
            plans.push(Plan::of_rule(rule, settings.defaults, &mut complaints));
            let place = |(key, message)| PolicyError { rule: Some(index), key, message };
            wrong.extend(complaints.into_iter().map(place));
        }
        let mut complaints = Vec::new();
        plans.push(Plan::of_defaults(settings.defaults, &mut complaints));
        wrong.extend(complaints.into_iter().map(|(mut key, message)| {
            key.insert(0, "defaults".to_owned());
            PolicyError { rule: None, key, message }
        }));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self { rules: Rules::new(conditions), plans, tokens })
    }

    /// The rule that decides, if any does.
    pub(super) fn decide(&self, listener: &str, head: &http::request::Parts) -> Option<Decision> {
        self.rules.decide(listener, head)
    }

    /// The plan of a decision.
    pub(super) fn plan(&self, decision: Option<Decision>) -> &Plan {
        // `build` pushed one plan a rule and the defaults' behind them, so neither index can miss.
        &self.plans[decision.map_or(self.plans.len() - 1, |d| d.rule)]
    }

    /// The path pattern by which a rule matched.
    pub(super) fn path(&self, decision: Option<Decision>) -> Option<&super::pattern::PathPattern> {
        let decision = decision?;
        self.rules.conditions(decision.rule)?.path(decision.path?)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}

impl PolicyError {
    /// The key as it stands in the file: `rule[2].match.path`.
    pub fn path(&self) -> String {
        let key = self.key.join(".");
        match self.rule {
            Some(index) => format!("rule[{index}].{key}"),
            None => key,
        }
    }

    fn place(&self) -> String {
        let key = self.key.join(".");
        match self.rule {
            Some(index) => format!("rule {} {key}", index + 1),
            None => key,
        }
    }
}
