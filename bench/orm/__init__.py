"""What people would pick instead: FastAPI, with SQLAlchemy's async ORM over the same driver.

Written as their own documentation advises and as somebody who knows both would: typed models and response
models, dependencies for the session and the caller, authors joined rather than loaded one by one, `yield_per`
for the long list. It makes the same checks as the service: signature and claims of the token, a live session,
an active account, the rank in the community. In its favour, it has no rate limits and no ETags.
"""
