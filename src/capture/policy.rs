//! The policy: every decision of the configuration, compiled.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::CaptureSettings;
use super::geoip::Places;
use super::jwt::{Claims, Jwt};
use super::lru::Lru;
use super::plan::{Complaint, Plan};
use super::redact::Redactor;
use super::rules::{Conditions, Decision, Rules};
use super::selector::Selector;
use super::token::{Token, Tokens};
use crate::config::Level;
use crate::message::RequestHead;

/// JSON web tokens each worker remembers to have verified: an RSA signature takes longer than all the rest.
const VERIFIED: usize = 1024;

/// Secrets whose tokens each worker remembers. Clients use the same key or cookie many times over.
const REMEMBERED: usize = 4096;

/// Rules, redaction, identity and GeoIP, compiled: immutable, swapped as a whole on reload.
pub struct Policy {
    rules: Rules,
    /// One for each rule, and last the one of the defaults.
    plans: Vec<Plan>,
    tokens: Tokens,
    pub(super) redactor: Redactor,
    pub(super) jwt: Option<Jwt>,
    /// Basic authentication names the user.
    pub(super) basic: bool,
    pub(super) places: Option<Places>,
    /// Bytes of a body that are kept.
    pub(super) body_size: usize,
    /// Bytes a body may have when it is decoded.
    pub(super) decoded_size: usize,
}

/// A worker's hold on the policy.
///
/// Exchanges share it by `Rc`: a counter that all workers write for every request would bounce between
/// their caches.
pub(super) struct Held {
    policy: Arc<Policy>,
    known: RefCell<Lru<Box<[u8]>, Token>>,
    verified: RefCell<Lru<Box<str>, Rc<Claims>>>,
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
        let (mut plans, conditions) = read_rules(settings, &mut wrong);
        let mut top = |section: &str, complaints: Vec<Complaint>| {
            wrong.extend(complaints.into_iter().map(|(mut key, message)| {
                key.insert(0, section.to_owned());
                PolicyError { rule: None, key, message }
            }));
        };
        let mut complaints = Vec::new();
        plans.push(Plan::of_defaults(settings.defaults, &mut complaints));
        top("defaults", std::mem::take(&mut complaints));
        let jwt = settings.identity.jwt.as_ref().and_then(|jwt| Jwt::compile(jwt, &mut complaints));
        top("identity", std::mem::take(&mut complaints));
        let mut redactor = Redactor::compile(settings.redaction, &mut complaints);
        top("redaction", std::mem::take(&mut complaints));
        let places = settings.geoip.city.as_deref().and_then(|path| open_places(path, &mut complaints));
        top("geoip", complaints);
        complete(&mut plans);
        for plan in &plans {
            plan.session.iter().chain(&plan.api_key).for_each(|selector| redactor.learn(selector));
        }
        if let Some(jwt) = &jwt {
            redactor.learn(&jwt.from);
        }
        refuse_secret_facts(settings, &plans, &redactor, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            rules: Rules::new(conditions),
            plans,
            tokens,
            redactor,
            jwt,
            basic: settings.identity.basic,
            places,
            body_size: settings.defaults.body_size.as_usize(),
            decoded_size: settings.defaults.decoded_size.as_usize(),
        })
    }

    /// The rule that decides, if any does.
    pub(super) fn decide(&self, listener: &str, head: &RequestHead) -> Option<Decision> {
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

/// The rules' plans and conditions; complaints name the rule.
fn read_rules(settings: &CaptureSettings<'_>, wrong: &mut Vec<PolicyError>) -> (Vec<Plan>, Vec<Conditions>) {
    let (mut plans, mut conditions) = (Vec::new(), Vec::new());
    for (index, rule) in settings.rules.iter().enumerate() {
        let mut complaints = Vec::new();
        let name = || vec!["name".to_owned()];
        if rule.name.is_empty() {
            complaints.push((name(), "every rule has a name: write `name = \"…\"`".to_owned()));
        } else if settings.rules[..index].iter().any(|r| r.name == rule.name) {
            complaints.push((name(), format!("there is another rule `{}`; names are unique", rule.name)));
        }
        match Conditions::compile(&rule.matches) {
            Ok(compiled) => conditions.push(compiled),
            Err(all) => {
                complaints.extend(all.into_iter().map(|(key, e)| (vec!["match".to_owned(), key.to_owned()], e)))
            }
        }
        let plan = Plan::of_rule(rule, settings.defaults, &mut complaints);
        if let Some(compiled) = conditions.last().filter(|_| complaints.is_empty()) {
            complaints.extend(unknown_names(&plan, compiled));
        }
        plans.push(plan);
        wrong.extend(complaints.into_iter().map(|(key, message)| PolicyError { rule: Some(index), key, message }));
    }
    (plans, conditions)
}

/// `path.NAME` without a `{NAME}` would never find anything.
fn unknown_names(plan: &Plan, conditions: &Conditions) -> Vec<Complaint> {
    let known = |name: &str| conditions.paths().iter().any(|path| path.names().any(|n| n == name));
    let unknown = plan.named_selectors().filter_map(|(key, selector)| match selector {
        Selector::Path(name) if !known(name) => Some((key, name)),
        _ => None,
    });
    unknown
        .map(|(key, name)| {
            (key, format!("no path of this rule has a `{{{name}}}`; write `path = \"/…/{{{name}}}\"` in its match"))
        })
        .collect()
}

fn open_places(path: &Path, complaints: &mut Vec<Complaint>) -> Option<Places> {
    let complain = |e| complaints.push((vec!["city".to_owned()], format!("{} can't be used: {e}", path.display())));
    Places::open(path).map_err(complain).ok()
}

/// Where a login gives out a session, every plan looks for it; and the bodies in which plans look are kept.
fn complete(plans: &mut [Plan]) {
    let mut shown: Vec<Selector> = Vec::new();
    for again in plans.iter().flat_map(|plan| &plan.session).filter_map(Selector::shown_again) {
        if !shown.contains(&again) {
            shown.push(again);
        }
    }
    for plan in plans.iter_mut().filter(|plan| plan.level != Level::None) {
        for selector in &shown {
            if !plan.session.contains(selector) {
                plan.session.push(selector.clone());
            }
        }
        plan.gather();
    }
}

/// A fact is written as it is, so it can't be made of what is masked everywhere else.
fn refuse_secret_facts(
    settings: &CaptureSettings<'_>,
    plans: &[Plan],
    redactor: &Redactor,
    wrong: &mut Vec<PolicyError>,
) {
    for (index, plan) in plans.iter().enumerate() {
        let is_default = index == settings.rules.len();
        for (mut key, selector) in plan.named_selectors() {
            let own = is_default || key[0] != "user" || !settings.rules[index].user.is_empty();
            if !own || !redactor.is_secret_selector(selector) {
                continue;
            }
            if is_default {
                key.insert(0, "defaults".to_owned());
            }
            let message =
                "this is a secret and is never written; name it in `session` or `api_key` to have its token".to_owned();
            wrong.push(PolicyError { rule: (!is_default).then_some(index), key, message });
        }
    }
}

// === impl Held ===

impl Held {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self { policy, known: RefCell::new(Lru::new(REMEMBERED)), verified: RefCell::new(Lru::new(VERIFIED)) }
    }

    /// Whether this is a hold on `policy`.
    pub(super) fn is(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// What a JSON web token says, where it is believed at `now` (seconds since 1970).
    pub(super) fn claims(&self, jwt: &Jwt, token: &str, now: u64) -> Option<Rc<Claims>> {
        let mut verified = self.verified.borrow_mut();
        if let Some(claims) = verified.get(token).filter(|claims| claims.still_good(now)) {
            return Some(claims.clone());
        }
        let claims = Rc::new(jwt.read(token)?);
        verified.insert(token.into(), claims.clone());
        Some(claims)
    }

    /// The token of a secret.
    pub(super) fn token(&self, secret: &str) -> Token {
        let mut known = self.known.borrow_mut();
        if let Some(token) = known.get(secret.as_bytes()) {
            return *token;
        }
        let token = self.policy.tokens.of(secret.as_bytes());
        // Nobody's usual secret is this long; what floods us is not remembered.
        if secret.len() <= 512 {
            known.insert(secret.as_bytes().into(), token);
        }
        token
    }
}

impl Deref for Held {
    type Target = Policy;
    fn deref(&self) -> &Policy {
        &self.policy
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
