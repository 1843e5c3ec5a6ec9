"""People as we know them: how they sign in and out, their profiles, their data, and how they leave for good.

Who somebody is, is for the identity provider to say; the embedded one lives in `sign_in`. An account is
known by issuer and subject together.
"""
