"""The pages: Guildhall in a browser.

A page is a route that answers HTML from the same queries that the APIs use. What people change there they
change by the documented API: a form names the call, and one script makes it.
"""
