//! A plan: what one rule, with the defaults filled in, makes of an exchange.

use std::collections::BTreeMap;

use http::HeaderName;

use super::pattern::ValuePattern;
use super::selector::Selector;
use crate::config::{Defaults, Level, Mode, RuleSettings, Strings, Success};

/// The compiled rule, without its conditions.
#[derive(Debug)]
pub(super) struct Plan {
    /// The rule; `None` for the defaults.
    pub(super) name: Option<Box<str>>,
    pub(super) kind: Box<str>,
    pub(super) purpose: Purpose,
    pub(super) mode: Mode,
    pub(super) level: Level,
    pub(super) success: Option<Measure>,
    pub(super) user: Vec<(UserField, Selector)>,
    pub(super) target: Vec<(UserField, Selector)>,
    pub(super) session: Vec<Selector>,
    pub(super) api_key: Vec<Selector>,
    pub(super) tenant: Option<Selector>,
    pub(super) origin: Option<Selector>,
    pub(super) route: Option<Box<str>>,
    pub(super) geoip: bool,
    pub(super) attributes: Vec<(Box<str>, Selector)>,
    /// The request's body must be copied.
    pub(super) request_body: bool,
    /// The response's body must be copied.
    pub(super) response_body: bool,
}

/// What a kind means to us beyond its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A session begins.
    Login,
    /// A session ends.
    Logout,
    /// A session acts for somebody else, or stops to.
    Impersonation,
    /// Nothing special.
    Other,
}

/// A field of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserField {
    Id,
    Email,
    Name,
}

/// When an exchange counts as a success.
#[derive(Debug)]
pub(super) struct Measure {
    pub(super) status: Vec<u16>,
    pub(super) headers: Vec<(HeaderName, ValuePattern)>,
    pub(super) json: Vec<(Box<str>, ValuePattern)>,
}

/// A complaint: the keys that lead to the value, and what to write instead.
pub(super) type Complaint = (Vec<String>, String);

// === impl Plan ===

impl Plan {
    /// The plan of exchanges that no rule matches.
    pub(super) fn of_defaults(defaults: &Defaults, wrong: &mut Vec<Complaint>) -> Self {
        Self::compile(&RuleSettings::default(), defaults, wrong, true)
    }

    /// The plan of a rule.
    pub(super) fn of_rule(rule: &RuleSettings, defaults: &Defaults, wrong: &mut Vec<Complaint>) -> Self {
        Self::compile(rule, defaults, wrong, false)
    }

    fn compile(rule: &RuleSettings, defaults: &Defaults, wrong: &mut Vec<Complaint>, is_default: bool) -> Self {
        let kind = rule.kind.as_deref().unwrap_or(&defaults.kind);
        if let Err(e) = check_kind(kind).or_else(|e| if rule.kind.is_some() || is_default { Err(e) } else { Ok(()) }) {
            wrong.push((vec!["kind".to_owned()], e));
        }
        let purpose = Purpose::of(kind);
        // A key left out of a rule takes the default's value, whose complaints are made once, for the defaults.
        let mut unheard = Vec::new();
        let mut list = |key: &str, own: Option<&String>, default: &Strings| -> Vec<Selector> {
            let heard = if own.is_some() || is_default { &mut *wrong } else { &mut unheard };
            match own {
                Some(text) => selector(&[key], text, heard).into_iter().collect(),
                None => default.iter().filter_map(|text| selector(&[key], text, heard)).collect(),
            }
        };
        let session = list("session", rule.session.as_ref(), &defaults.session);
        let api_key = list("api_key", rule.api_key.as_ref(), &defaults.api_key);
        let user = match (rule.user.is_empty(), is_default) {
            (false, _) => fields("user", &rule.user, wrong),
            (true, true) => fields("user", &defaults.user, wrong),
            (true, false) => fields("user", &defaults.user, &mut unheard),
        };
        let own = |key: &str, text: &Option<String>, wrong: &mut Vec<Complaint>| -> Option<Selector> {
            selector(&[key], text.as_deref()?, wrong)
        };
        let attributes = rule.attributes.iter();
        let attributes = attributes
            .filter_map(|(name, text)| Some((name.as_str().into(), selector(&["attributes", name], text, wrong)?)));
        Self {
            name: (!is_default).then(|| rule.name.as_str().into()),
            kind: kind.into(),
            purpose,
            mode: rule.mode.unwrap_or(defaults.mode),
            level: rule.level.unwrap_or(defaults.level),
            attributes: attributes.collect(),
            success: rule.success.as_ref().map(|s| Measure::compile(s, wrong)),
            user,
            target: fields("target", &rule.target, wrong),
            session,
            api_key,
            tenant: own("tenant", &rule.tenant, wrong),
            origin: own("origin", &rule.origin, wrong),
            route: rule.route.as_deref().map(Into::into),
            geoip: rule.geoip.unwrap_or(purpose == Purpose::Login),
            request_body: false,
            response_body: false,
        }
    }

    /// Every selector of the plan.
    pub(super) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        let fields = self.user.iter().chain(&self.target).map(|(_, s)| s);
        let lists = self.session.iter().chain(&self.api_key).chain(&self.tenant).chain(&self.origin);
        fields.chain(lists).chain(self.attributes.iter().map(|(_, s)| s))
    }

    /// The selectors whose values are written, with the keys that lead to them.
    pub(super) fn named_selectors(&self) -> impl Iterator<Item = (Vec<String>, &Selector)> {
        let user = self.user.iter().map(|(field, s)| (vec!["user".to_owned(), field.key().to_owned()], s));
        let target = self.target.iter().map(|(field, s)| (vec!["target".to_owned(), field.key().to_owned()], s));
        let attributes = self.attributes.iter().map(|(name, s)| (vec!["attributes".to_owned(), name.to_string()], s));
        let single = [("tenant", &self.tenant), ("origin", &self.origin)];
        let single = single.into_iter().filter_map(|(key, s)| Some((vec![key.to_owned()], s.as_ref()?)));
        user.chain(target).chain(attributes).chain(single)
    }

    /// Works out which bodies must be copied, for the selectors above.
    pub(super) fn gather(&mut self) {
        let measures_body = self.success.as_ref().is_some_and(|m| !m.json.is_empty());
        self.request_body = self.level >= Level::Request || self.selectors().any(Selector::needs_request_body);
        self.response_body = self.level >= Level::RequestResponse
            || measures_body
            || self.selectors().any(Selector::needs_response_body);
    }
}

impl UserField {
    /// The field's key in the configuration.
    fn key(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Email => "email",
            Self::Name => "name",
        }
    }
}

impl Purpose {
    fn of(kind: &str) -> Self {
        match kind {
            "login" => Self::Login,
            "logout" => Self::Logout,
            "impersonation" => Self::Impersonation,
            _ => Self::Other,
        }
    }
}

// === impl Measure ===

impl Measure {
    fn compile(success: &Success, wrong: &mut Vec<Complaint>) -> Self {
        let key = |name: &str, field: &str| vec!["success".to_owned(), name.to_owned(), field.to_owned()];
        let mut headers = Vec::new();
        for (name, pattern) in &success.response_header {
            match name.parse::<HeaderName>() {
                Ok(parsed) => headers.push((parsed, ValuePattern::parse(pattern))),
                Err(_) => wrong.push((key("response_header", name), format!("`{name}` can't be a header's name"))),
            }
        }
        let mut json = Vec::new();
        for (pointer, pattern) in &success.response_json {
            if pointer.is_empty() || pointer.starts_with('/') {
                json.push((pointer.as_str().into(), ValuePattern::parse(pattern)));
            } else {
                let message = format!("a JSON pointer begins with `/`: write `/{}`", pointer.replace('.', "/"));
                wrong.push((key("response_json", pointer), message));
            }
        }
        for status in success.status.iter().filter(|s| !(100..600).contains(*s)) {
            let message = format!("`{status}` is not a status; write one from 100 to 599");
            wrong.push((vec!["success".to_owned(), "status".to_owned()], message));
        }
        Self { status: success.status.clone(), headers, json }
    }
}

fn check_kind(kind: &str) -> Result<(), String> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if kind.is_empty() || !kind.bytes().all(fine) {
        return Err(format!(
            "`{kind}` is not a kind; write lower-case letters, digits and `-`, like `panel` or `sms-gateway`"
        ));
    }
    match kind {
        "loss" | "reload" | "start" | "checkpoint" => {
            Err(format!("`{kind}` is a kind of Daybook's own records; choose another word"))
        }
        _ => Ok(()),
    }
}

fn selector(key: &[&str], text: &str, wrong: &mut Vec<Complaint>) -> Option<Selector> {
    let complain = |e| wrong.push((key.iter().map(|k| (*k).to_owned()).collect(), e));
    Selector::parse(text).map_err(complain).ok()
}

fn fields(key: &str, texts: &BTreeMap<String, String>, wrong: &mut Vec<Complaint>) -> Vec<(UserField, Selector)> {
    let mut all = Vec::new();
    for (name, text) in texts {
        let field = match name.as_str() {
            "id" => UserField::Id,
            "email" => UserField::Email,
            "name" => UserField::Name,
            _ => {
                let message = format!("a user has no `{name}`; write `id`, `email` or `name`");
                wrong.push((vec![key.to_owned(), name.clone()], message));
                continue;
            }
        };
        if let Some(selector) = selector(&[key, name], text, wrong) {
            all.push((field, selector));
        }
    }
    all
}
