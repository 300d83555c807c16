//! Who did it, by the most trustworthy sign there is; and what a login, a logout or an impersonation teaches.

use std::borrow::Cow;
use std::sync::Arc;

use super::facts::Facts;
use super::plan::{Purpose, UserField};
use super::selector::Selector;
use super::sessions::{Holder, Person};
use super::token::{Token, hint};
use crate::record::{ApiKey, Text, User, UserSource};

/// Who did it.
#[derive(Default)]
pub(super) struct Who<'f> {
    pub(super) user: Option<User<'f>>,
    pub(super) impersonator: Option<User<'f>>,
    /// The session, as a token.
    pub(super) session: Option<Token>,
    pub(super) api_key: Option<ApiKey<'f>>,
    /// The session that was known before.
    known: Option<Holder>,
    /// Where the session's secret stood.
    by: Option<&'f Selector>,
}

/// Who did it, as far as it is known now. `success` counts for logins and basic authentication.
pub(super) fn who<'f>(facts: &'f Facts<'_>, success: bool) -> Who<'f> {
    let plan = facts.state.plan();
    let mut who = Who { api_key: api_key(facts), ..Who::default() };
    let request_side = plan.session.iter().filter(|s| !s.is_of_response());
    if let Some((by, secret)) = request_side.filter_map(|s| Some((s, facts.secret(s)?))).next() {
        let token = facts.state.policy.token(&secret);
        who.known = facts.state.worker.sessions.find(&token, facts.state.time);
        (who.session, who.by) = (Some(token), Some(by));
    }
    let named = named(facts, &plan.user, success);
    let candidates = [tls(facts), named, jwt(facts), session(who.known.as_ref()), basic(facts, success)];
    who.impersonator = who.known.as_ref().and_then(|k| k.impersonator.as_deref()).map(person);
    let login = plan.purpose == Purpose::Login;
    let [tls, named, ..] = &candidates;
    who.user = match (tls, named) {
        // Whoever logs in is whom the login names, not whom an older session or key named.
        (None, Some(named)) if login => Some(named.clone()),
        _ => candidates.into_iter().flatten().min_by_key(|user| user.source),
    };
    if login {
        who.impersonator = None;
    }
    who
}

/// What the end of an exchange teaches about sessions. Changes `who` where the exchange itself did.
pub(super) fn learn<'f>(facts: &'f Facts<'_>, who: &mut Who<'f>, success: bool) {
    let plan = facts.state.plan();
    let (sessions, now) = (&facts.state.worker.sessions, facts.state.time);
    match plan.purpose {
        Purpose::Login if success => {
            let response_side = plan.session.iter().filter(|s| s.is_of_response());
            let new = response_side.filter_map(|s| facts.secret(s)).next().map(|s| facts.state.policy.token(&s));
            // An application that keeps the session it had before the login sets no new one.
            who.session = new.or(who.session);
            if let (Some(token), Some(user)) = (who.session, &who.user) {
                sessions.learn(token, Holder { user: Arc::new(owned(user)), impersonator: None }, now);
            }
            return;
        }
        Purpose::Logout if success => {
            if let Some(token) = &who.session {
                sessions.forget(token);
            }
            return;
        }
        Purpose::Impersonation if success => impersonate(facts, who),
        _ => {}
    }
    follow(facts, who);
}

/// From now on the session acts for the target; without a target, for itself again.
fn impersonate<'f>(facts: &'f Facts<'_>, who: &mut Who<'f>) {
    let (Some(token), Some(known)) = (who.session, who.known.take()) else { return };
    let real = known.impersonator.clone().unwrap_or_else(|| known.user.clone());
    let holder = match named(facts, &facts.state.plan().target, true) {
        Some(target) => {
            let user = Arc::new(owned(&target));
            who.impersonator = Some(person(&real));
            who.user = Some(target);
            Holder { user, impersonator: Some(real) }
        }
        None => Holder { user: real, impersonator: None },
    };
    facts.state.worker.sessions.learn(token, holder.clone(), facts.state.time);
    who.known = Some(holder);
}

/// A known session whose cookie the response replaces goes on under the new one (applications change it
/// with the password); one whose cookie it takes away is over.
fn follow(facts: &Facts<'_>, who: &Who<'_>) {
    let (Some(token), Some(known), Some(Selector::RequestCookie(name))) = (who.session, &who.known, who.by) else {
        return;
    };
    let sessions = &facts.state.worker.sessions;
    match facts.set_cookie(name) {
        None => {}
        Some(None) => sessions.forget(&token),
        Some(Some(new)) => {
            let new = facts.state.policy.token(new);
            if new != token {
                sessions.learn(new, known.clone(), facts.state.time);
            }
        }
    }
}

fn api_key<'f>(facts: &'f Facts<'_>) -> Option<ApiKey<'f>> {
    let key = facts.state.plan().api_key.iter().find_map(|s| facts.secret(s))?;
    let token = facts.state.policy.token(&key);
    Some(ApiKey { hint: hint(&key).map(Text::from), token: super::token::hex(&token).into() })
}

/// What the rule's selectors find. The source is the least trustworthy of those that found something.
fn named<'f>(facts: &'f Facts<'_>, fields: &'f [(UserField, Selector)], success: bool) -> Option<User<'f>> {
    let mut user = User::default();
    for (field, selector) in fields {
        let Some(text) = facts.text(selector) else { continue };
        let place = match field {
            UserField::Id => &mut user.id,
            UserField::Email => &mut user.email,
            UserField::Name => &mut user.name,
        };
        *place = Some(text.into());
        user.source = user.source.max(Some(source(facts, selector, success)));
    }
    // Many applications let people sign in by either.
    if user.email.is_none() {
        user.email = user.name.as_ref().filter(|name| is_email(name)).cloned();
    }
    user.source.is_some().then_some(user)
}

/// Whether a name is an e-mail address, by its look: something, one `@`, a domain with a dot in it.
fn is_email(name: &str) -> bool {
    let plain =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control());
    let domain = |domain: &str| domain.split('.').count() > 1 && domain.split('.').all(plain);
    name.split_once('@').is_some_and(|(local, rest)| plain(local) && domain(rest))
}

fn source(facts: &Facts<'_>, selector: &Selector, success: bool) -> UserSource {
    match selector {
        Selector::TlsSubject => UserSource::Tls,
        Selector::ResponseHeader(_) | Selector::ResponseJson(_) | Selector::ResponseCookie(_) | Selector::Status => {
            UserSource::Response
        }
        Selector::Jwt(_) if facts.claims().is_some_and(|c| c.verified) => UserSource::JwtVerified,
        Selector::Jwt(_) => UserSource::JwtUnverified,
        Selector::BasicUser if success => UserSource::Basic,
        _ => UserSource::Request,
    }
}

fn tls<'f>(facts: &'f Facts<'_>) -> Option<User<'f>> {
    let subject = facts.state.connection.tls_subject.as_deref().filter(|s| !s.is_empty())?;
    Some(User { id: Some(subject.into()), source: Some(UserSource::Tls), ..User::default() })
}

fn jwt<'f>(facts: &'f Facts<'_>) -> Option<User<'f>> {
    let jwt = facts.state.policy.jwt.as_ref()?;
    let claims = facts.claims()?;
    let [id, email, name] = jwt
        .claims
        .each_ref()
        .map(|claim| facts.text(&Selector::Jwt(claim.clone())).map(|text| Text::from(text.into_owned())));
    let source = if claims.verified { UserSource::JwtVerified } else { UserSource::JwtUnverified };
    let found = id.is_some() || email.is_some() || name.is_some();
    found.then_some(User { id, email, name, source: Some(source) })
}

fn session(known: Option<&Holder>) -> Option<User<'static>> {
    known.map(|known| person(&known.user))
}

fn basic<'f>(facts: &'f Facts<'_>, success: bool) -> Option<User<'f>> {
    if !facts.state.policy.basic {
        return None;
    }
    let (user, _) = facts.basic()?;
    // A name that the application did not accept is only a claim.
    let source = if success { UserSource::Basic } else { UserSource::Request };
    Some(User { name: Some(user.as_str().into()), source: Some(source), ..User::default() })
}

fn person(person: &Person) -> User<'static> {
    let text = |t: &Option<String>| t.clone().map(Text::from);
    User {
        id: text(&person.id),
        email: text(&person.email),
        name: text(&person.name),
        source: Some(UserSource::Session),
    }
}

fn owned(user: &User<'_>) -> Person {
    let text = |t: &Option<Text<'_>>| t.as_ref().map(|t| Cow::clone(&t.0).into_owned());
    Person { id: text(&user.id), email: text(&user.email), name: text(&user.name) }
}

#[cfg(test)]
mod tests {
    use super::is_email;

    #[test]
    fn names_that_are_e_mail_addresses_are_told_by_their_look() {
        for email in ["ada@example.com", "a.b+c@mail.example.org", "ö@exämple.de"] {
            assert!(is_email(email), "{email}");
        }
        for name in ["ada", "ada@", "@example.com", "ada@localhost", "a@b@example.com", "ada@.com", "a b@example.com"] {
            assert!(!is_email(name), "{name}");
        }
    }
}
