# -*- coding: utf-8 -*-
"""Users, their aliases and their devices, for the directory."""
import os
import copiste.binding
import copiste.functions.ldapfuncs as ldapfuncs
import copiste.ldapsync
from copiste.functions.base import LogWarn
from copiste.sql import WriteTrigger as Trigger

BASE = 'dc=example,' \
       'dc=org'

ldap_credentials = {
    "host":    'ldap://ldap.example.org:389',
    "bind_dn": 'cn=admin,' + BASE,
    "bind_pw": 'hunter2-canary',
}

pg_credentials = {
    'host':     "db.example.org",
    'user':     os.environ.get('SHOP_USER'),
    'database': "people",
    'password': "tiger-canary",
}

person = copiste.ldapsync.LDAPModel(
    query='(&(objectClass=inetOrgPerson)(uid={uid}))',
    base='ou=users,' + BASE,
    dn='uid={uid},ou=users,' + BASE,
    static_attrs={'objectClass': ['top', 'inetOrgPerson'], 'ou': 'users', 'description': 'made {{by}} copiste'},
)
group = copiste.ldapsync.LDAPModel('(cn={cn})', 'ou=groups,' + BASE, 'cn={cn},ou=groups,' + BASE)

bindings = [
    copiste.binding.Bind(
        Trigger(sql_table='hr.person', name='sync_users'),
        ldapfuncs.Copy2LDAP(
            attrs_map={'uid': 'id', 'sn': 'Last Name', 'cn': 'mail', 'mail': 'mail'},
            dyn_attrs_map={
                'mail': "SELECT mail FROM alias WHERE user_id = '{id}'",
                'givenName': u"SELECT first AS \"givenName\" FROM names WHERE person = {id};",
            },
            ldap_model=person,
            ldap_creds=ldap_credentials,
        ),
    ),
    copiste.binding.Bind(
        Trigger('alias', 'aliases', moment='AFTER'),
        ldapfuncs.Accumulate2LDAPField('mail', {'uid': 'user_id'}, person, ldap_credentials),
    ),
    copiste.binding.Bind(
        Trigger('alias', 'aliases'),
        ldapfuncs.AccumulateRequest2LDAPField(
            ldap_field='memberUid', keys_map={'cn': 'team'}, ldap_model=group, ldap_creds=ldap_credentials,
            sql_request="""
SELECT login FROM team
 WHERE name = '{team}' AND note LIKE '%{mail}%'
"""),
    ),
]

bindings.append(copiste.binding.Bind(
    Trigger(sql_table='public.device', name='devices'),
    ldapfuncs.StoreIfExists(
        sql_test_attr='id', key_map={'uid': 'owner'}, ldap_model=person,
        ldap_store_key='objectClass', ldap_store_val='bootableDevice', ldap_creds=ldap_credentials)))
bindings += [copiste.binding.Bind(Trigger('public.device', 'shout'), LogWarn(message="it's written: {watch out}"))]
