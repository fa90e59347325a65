//! Why a page cannot be shown, as a page.

use super::fields;
use crate::{
    access::{AccessError, Exceeded},
    contract::printable,
    operations::{self, verdict},
};
use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};

/// Why a request gets no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsoleError {
    /// Only a visitor who has logged in may see it.
    #[error("a login is needed")]
    LoginNeeded {
        /// The page that was asked for.
        next: String,
    },
    /// A link on another site led here: the browser held the cookie back, and sends it when the page asks again.
    #[error("the browser held back the cookie")]
    FromElsewhere,
    /// The visitor may not do this.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The visitor's token is used too often.
    #[error(transparent)]
    TooMany(Exceeded),
    /// A page of another site sent the form.
    #[error("this form was not sent by a page of the console")]
    ForeignForm,
    /// The form is from before the login.
    #[error("this form is from before your login")]
    OldForm,
    /// The form is too large, or came too slowly.
    #[error("the form could not be read")]
    UnreadableForm,
    /// A field or a part of the address is not valid.
    #[error("{0}")]
    Invalid(String),
    /// There is no such page, job or dead letter.
    #[error("{0}")]
    NotFound(String),
    /// The operation cannot be done now.
    #[error("{sentence}")]
    Refused {
        /// What is the case.
        sentence: String,
        /// What to do.
        remedy: String,
    },
    /// An operation failed.
    #[error(transparent)]
    Operation(#[from] operations::Error),
    /// A template failed. It cannot.
    #[error("the page could not be written")]
    Template(#[from] askama::Error),
}

/// Answers of handlers.
pub(super) type Answer = Result<Response, ConsoleError>;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    title: &'static str,
    sentence: String,
    remedy: String,
}

#[derive(Template)]
#[template(path = "again.html")]
struct AgainPage;

impl ConsoleError {
    fn status(&self) -> StatusCode {
        match self {
            Self::LoginNeeded { .. } => StatusCode::SEE_OTHER,
            Self::FromElsewhere => StatusCode::OK,
            Self::Access(AccessError::PersonName) | Self::Invalid(_) | Self::UnreadableForm => StatusCode::BAD_REQUEST,
            Self::Access(_) | Self::ForeignForm | Self::OldForm => StatusCode::FORBIDDEN,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Refused { .. } => StatusCode::CONFLICT,
            Self::Operation(error) => match error {
                operations::Error::Redis { .. } | operations::Error::RedisUrl(_) => StatusCode::SERVICE_UNAVAILABLE,
                operations::Error::UnknownDeadLetter => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            },
            Self::Template(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn page(&self) -> ErrorPage {
        let remedy = match self {
            Self::Operation(operations::Error::Redis { reason, .. }) => {
                // Where Redis is, is not for everybody: this page needs no login.
                let verdict = verdict::without_redis(&printable(reason));
                return ErrorPage {
                    title: "Redis cannot be reached",
                    sentence: verdict.sentence,
                    remedy: verdict.advice.to_owned(),
                };
            }
            Self::Operation(error) => error.remedy().unwrap_or_default().to_owned(),
            Self::Refused { remedy, .. } => remedy.clone(),
            Self::ForeignForm => "If a proxy stands before the gateway and changes the Host of requests, set \
                                  gateway.public_url to the address that browsers see."
                .to_owned(),
            Self::OldForm => "Go back, load the page again, and send the form once more.".to_owned(),
            Self::Access(AccessError::Role(_)) => "Log in with another token, or ask somebody who has one.".to_owned(),
            Self::TooMany(exceeded) => format!("Try again in {} s.", exceeded.retry_after_s),
            _ => String::new(),
        };
        let title = match self {
            Self::NotFound(_) => "Not found",
            Self::Access(_) | Self::ForeignForm | Self::OldForm => "Not allowed",
            Self::Invalid(_) | Self::UnreadableForm => "Not valid",
            _ => "Not possible",
        };
        let mut sentence = printable(&self.to_string());
        if let Some(first) = sentence.get(..1) {
            sentence = format!("{}{}", first.to_uppercase(), sentence.get(1..).unwrap_or_default());
        }
        if !sentence.ends_with('.') {
            sentence.push('.');
        }
        ErrorPage { title, sentence, remedy }
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        match &self {
            Self::LoginNeeded { next } => {
                let to = if next == "/console" { String::new() } else { next.clone() };
                return Redirect::to(&fields::link("/console/login", &[("next", &to)])).into_response();
            }
            Self::FromElsewhere => return html(StatusCode::OK, &AgainPage),
            Self::Operation(operations::Error::Redis { place, reason, .. }) => {
                tracing::warn!(place, reason, "Redis cannot be used");
            }
            Self::Operation(error) => tracing::warn!(%error, "an operation of the console failed"),
            Self::Template(error) => tracing::error!(%error, "a page could not be written"),
            _ => {}
        }
        let mut response = html(self.status(), &self.page());
        if let Self::TooMany(exceeded) = &self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(exceeded.retry_after_s));
        }
        response
    }
}

/// A page of a template.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
